"""What the WebUI's API needs besides a request: its words for samplers, models, running work."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from api.generation import Generation
from models.catalog import Catalog
from models.errors import InvalidRequest, ModelNotFound
from models.schedulers import SCHEDULERS

KARRAS = " Karras"
"""How the WebUI's names of samplers ended before it had schedules of their own."""
SCHEDULES = {"automatic": "Automatic", "karras": "Karras"}
LORA_TAG = re.compile(r"<lora:([^:>]*)(?::([^>]*))?>")
PREVIEW_EVERY = 10
"""Steps, as in the WebUI."""


class WebUi:
    """By client: the model chosen as checkpoint, and what is being drawn; of the event loop."""

    def __init__(self) -> None:
        self.checkpoints: dict[str, str] = {}
        self._drawing: dict[str, list[Generation]] = {}

    def drawing(self, client: str) -> list[Generation]:
        """What is being drawn for `client`, oldest first."""
        return list(self._drawing.get(client, []))

    @contextmanager
    def draws(self, client: str, generation: Generation) -> Iterator[None]:
        """While this block runs, `generation` is what `client` draws."""
        mine = self._drawing.setdefault(client, [])
        mine.append(generation)
        try:
            yield
        finally:
            mine.remove(generation)
            if not mine:
                self._drawing.pop(client, None)


def find_scheduler(sampler: str | None, schedule: str | None) -> str | None:
    """Our scheduler for a sampler (name or alias) and a schedule; None: the model's own.

    Raises InvalidRequest.
    """
    karras = (schedule or "automatic").lower()
    if karras not in SCHEDULES:
        raise InvalidRequest(f"scheduler {schedule!r}: one of {', '.join(SCHEDULES)}")
    if not sampler:
        return None
    names = {spec.label.lower(): name for name, spec in SCHEDULERS.items()}
    names |= {name: name for name in SCHEDULERS}
    wanted = sampler.lower()
    if wanted not in names:
        labels = ", ".join(spec.label for spec in SCHEDULERS.values())
        raise InvalidRequest(f"sampler_name {sampler!r}: one of {labels}")
    name = names[wanted]
    if karras == "automatic" or SCHEDULERS[name].label.endswith(KARRAS):
        return name
    with_karras = names.get((SCHEDULERS[name].label + KARRAS).lower())
    if with_karras is None:
        raise InvalidRequest(f"scheduler {schedule!r}: the sampler {sampler!r} has none such")
    return with_karras


def take_lora(prompt: str) -> tuple[str, str | None]:
    """The prompt without its `<lora:NAME:1>` tag, and the adapter that it names.

    Raises InvalidRequest for more than one, or for another weight than 1.
    """
    tags = LORA_TAG.findall(prompt)
    if not tags:
        return prompt, None
    if len(tags) > 1:
        raise InvalidRequest(f"prompt: {len(tags)} <lora:...> tags, a picture takes one adapter")
    [(name, weight)] = tags
    try:
        whole = float(weight or 1) == 1
    except ValueError:
        whole = False
    if not whole:
        raise InvalidRequest(f"prompt: <lora:{name}:{weight}>: the only weight is 1")
    return LORA_TAG.sub("", prompt), name


def choose_model(lora: str | None, checkpoint: str, catalog: Catalog) -> str:
    """The model that draws: the adapter of a tag where there is one, on its own base only.

    Raises ModelNotFound or InvalidRequest.
    """
    if lora is None:
        return checkpoint
    adapter = catalog.get(lora).manifest
    if adapter.kind != "adapter":
        raise ModelNotFound(f"no adapter is called {lora!r}: it is a {adapter.kind}")
    chosen = catalog.get(checkpoint).manifest
    base = chosen.base if chosen.kind == "adapter" else chosen.name
    if adapter.base != base:
        raise InvalidRequest(
            f"prompt: <lora:{lora}> belongs to the model {adapter.base!r}, not to {base!r}"
        )
    return lora


def split_parameters(text: str) -> dict[str, str]:
    """A parameters text by key: `Prompt`, `Negative prompt` and the settings of its last line."""
    *lines, last = text.split("\n")
    settings = dict(re.findall(r'([\w+ ]+): ("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)', last))
    if not lines or "Steps" not in settings:
        return {"Prompt": text} if text else {}
    prompt, _, negative = "\n".join(lines).partition("\nNegative prompt: ")
    return {"Prompt": prompt, "Negative prompt": negative, **settings}
