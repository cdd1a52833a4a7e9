"""The plain data that passes between a service and an engine, and the protocol between them."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from models.counters import Counters


@dataclass(frozen=True)
class GenerationRequest:
    """One request: `len(seeds)` pictures of one prompt. `None` takes the model's own default."""

    prompt: str
    seeds: tuple[int, ...]
    model: str
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    """A name in `models.schedulers.SCHEDULERS`."""
    width: int | None = None
    height: int | None = None
    upscale: int = 1
    """How many times wider and higher the finished picture is than it was drawn, by the decoder
    that its base has for this (models/upscaler.py)."""
    init_image: Image.Image | None = field(default=None, repr=False)
    """A picture to start from instead of from noise; scaled to `width` and `height`."""
    strength: float | None = None
    """How much of `init_image` is drawn anew, above 0 (nothing) up to 1 (all)."""
    preview_every: int = 0
    """Steps of one picture between two Preview events; 0: none."""
    attention: bool = False
    """Whether to record where the U-Net looks for each word of the prompt."""
    timeout: float | None = None
    """Seconds from submission after which the request fails with the code `timeout`."""
    client: str = ""
    """Whom a fair engine takes turns over."""


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest(GenerationRequest):
    """A request with every default filled in, found good for its model."""

    steps: int
    guidance_scale: float
    scheduler: str
    width: int
    height: int
    strength: float


@dataclass(frozen=True)
class Limits:
    """What one request may ask of an engine at most."""

    max_side: int = 1024
    """Pixels of width or of height."""
    max_steps: int = 150
    max_images: int = 8


@dataclass(frozen=True)
class WordHeat:
    """Where the U-Net looked for one word of the prompt."""

    word: str
    heat: Image.Image = field(repr=False)
    """Mode F, of the latents' size: the mean share of attention that the word got there."""


@dataclass(frozen=True)
class GeneratedImage:
    """One picture, the seed it was made from, and the seconds its denoising and decoding took."""

    image: Image.Image
    seed: int
    seconds: float
    flagged: bool | None = None
    """By its base's safety checker; None where none was asked."""
    attention: tuple[WordHeat, ...] = field(default=(), repr=False)
    """One for each word, where asked for."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a request."""

    id: int
    """Counts from 0 within one request."""


@dataclass(frozen=True)
class Queued(Event):
    """Taken in; its turn comes."""

    position: int
    """Requests ahead of this one."""


@dataclass(frozen=True)
class Started(Event):
    """Its turn has come; the model may still have to be loaded."""


@dataclass(frozen=True)
class Step(Event):
    """A denoising step was taken."""

    step: int
    """1 to `steps`."""
    steps: int
    """Over all pictures of the request; a second-order scheduler takes two for each asked."""


@dataclass(frozen=True)
class Preview(Event):
    """What one of the request's pictures looks like so far; small and rough."""

    index: int
    """Which picture, counted from 0 in the order of the seeds."""
    step: int
    """Denoising steps that this picture has taken."""
    image: Image.Image = field(repr=False)


@dataclass(frozen=True)
class Finished(Event):
    """The pictures are made; a final event."""

    images: tuple[GeneratedImage, ...] = field(repr=False)
    request: ResolvedRequest


@dataclass(frozen=True)
class Failed(Event):
    """No picture comes of it, for the reason given; a final event."""

    code: str
    message: str


@dataclass(frozen=True)
class Cancelled(Event):
    """Stopped as asked; a final event."""


class Handle(Protocol):
    """A submitted request; safe to use from any thread."""

    id: str

    def events(self, after: int = -1, timeout: float | None = None) -> Iterator[Event]:
        """Yield the events with an id above `after`, waiting for more until a final one.

        Raises TimeoutError when the next one does not come within `timeout` seconds.
        """

    def cancel(self) -> None:
        """Stop the request before its next denoising step; no effect once it has ended."""

    def result(self, timeout: float | None = None) -> Finished:
        """Wait for the end.

        Raises GenerationFailed (with the code of the Failed event), GenerationCancelled, or
        TimeoutError after `timeout` seconds.
        """


@dataclass(frozen=True)
class EngineStatus:
    """What an engine says of itself."""

    ready: bool
    """A model is loaded and requests are taken: a first one need not wait for a load."""
    device: str
    dtype: str
    queued: int
    running: int
    queue_limit: int
    resident: tuple[str, ...]
    """Names of the models in memory."""
    restarts: int = 0
    """How often the engine's thread died of an error and was replaced."""
    counters: Counters = field(default_factory=Counters)
    weights_bytes: int = 0
    """Of the models in memory."""
    memory_budget: int = 0
    """Bytes that they may take."""


class Engine(Protocol):
    """Runs requests; knows nothing of HTTP, and may live in another process."""

    def submit(self, request: GenerationRequest) -> Handle:
        """Queue `request`.

        Raises ModelNotFound, InvalidRequest, QueueFull or EngineClosed.
        """

    def warm_up(self, model: str) -> Future[None]:
        """Load `model` in the background when no request needs the loader.

        Done when it is in memory, or with the ModelsError that kept it out. Raises EngineClosed.
        """

    def unload(self, model: str) -> Future[None]:
        """Free the memory of `model`, and of the adapters on it.

        Done when it is out of memory; ModelInUse where requests run or wait on it. Raises
        EngineClosed.
        """

    def describe(self) -> EngineStatus: ...

    def close(self, timeout: float = 10.0) -> None:
        """Take no new work, finish what is submitted within `timeout` seconds, free the weights.

        What is not done by then fails with the code `engine_closed`.
        """
