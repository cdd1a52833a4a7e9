"""What one evaluation is asked for, what it stands on, and what it finds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data.captions import with_article
from data.efficientnet import Variant
from models.catalog import Catalog
from models.errors import ModelNotFound
from models.manifest import Manifest
from training.config import ConfigError
from training.evaluation.cases import Case
from training.evaluation.drawing import Drawer
from training.evaluation.judge import Judge, Judgement
from training.evaluation.metrics import class_rate, diversity, top_k_rate


@dataclass(frozen=True)
class EvaluateConfig:
    """What `python -m training evaluate` reads from its options."""

    model: str
    """A catalog name."""
    dataset: Path | None = None
    """A prepared dataset: the model's training photos, and for breeds the official test photos
    too; None takes the one of the model's manifest under the home folder."""
    photos: Path | None = None
    """A folder of photos of a model's one animal that it was not trained on."""
    prompts: tuple[str, ...] = ()
    """Prompts to draw and judge besides what the model was taught."""
    seeds: int = 16
    """Pictures of each prompt, by the seeds 0 to seeds - 1."""
    judge: Variant = "lite2"
    """lite0 found the crops and is in the embedded autoencoder's loss."""
    clip: str | None = None
    """A CLIP model, folder or hub id, for CLIP-I and CLIP-T of a model of one animal."""
    dino: str | None = None
    """A DINO model, folder or hub id."""
    output: Path | None = None
    """Where to write; None writes into the model's folder."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 2 <= self.seeds <= 1000:
            raise ConfigError(f"seeds: {self.seeds} is not from 2 to 1000")


@dataclass(frozen=True)
class Bench:
    """What the parts of one evaluation share."""

    config: EvaluateConfig
    manifest: Manifest
    base: Manifest | None
    """What the model was before its training, where that is in the catalog."""
    dataset: Path | None
    catalog: Catalog
    drawer: Drawer
    judge: Judge

    def class_prompt(self, word: str) -> str:
        """The class that the model was held to; without one, that of what it was taught."""
        return self.manifest.class_prompt or f"a photo of {with_article(word)}"


@dataclass(frozen=True)
class Findings:
    """What a part of an evaluation found."""

    record: dict[str, Any]
    """Its entries in evaluation.json."""
    samples: dict[str, tuple[Tensor, str]]
    """Pictures `[S, 3, H, W]` and a short note by what they show."""
    neighbours: Tensor | None = None
    """`[N, 3, 3, H, W]`: a picture, its nearest photo by features, its nearest photo by pixels."""


def base_of(manifest: Manifest, catalog: Catalog) -> Manifest | None:
    """The manifest of the model that this one was trained from, where the catalog has it."""
    try:
        return catalog.get(manifest.base).manifest if manifest.base else None
    except ModelNotFound:
        return None


def judge_drawn(bench: Bench, drawn: Tensor, label: str) -> Judgement:
    """Judge pictures `[P, S, 3, H, W]`; rows come prompt by prompt."""
    return bench.judge(drawn.flatten(0, 1), progress=f"judging {label}")


def rates(judgement: Judgement, case: Case) -> dict[str, float]:
    """How often the judge sees the class (a dog), and how often the case's own breed is the first,
    or among the five first, of 1,000 classes; what of it can be told."""
    found = {}
    if case.classes:
        found["class_rate"] = class_rate(judgement.probabilities, case.classes)
    if case.imagenet_class is not None:
        for k in (1, 5):
            found[f"top{k}"] = top_k_rate(judgement.probabilities, case.imagenet_class, k)
    return found


def evaluate_prompts(bench: Bench, cases: list[Case]) -> Findings:
    """Draw prompts of the caller's, and judge those that name one breed."""
    drawn = bench.drawer.draw(bench.manifest.name, [case.prompt for case in cases], "prompts")
    judged = judge_drawn(bench, drawn, "prompts")
    rows, samples = [], {}
    for number, case in enumerate(cases):
        own = judged[slice(number * bench.config.seeds, (number + 1) * bench.config.seeds)]
        found = rates(own, case)
        rows.append({"prompt": case.prompt, **found, "diversity": diversity(own.features)})
        note = f"top 5: {found['top5']:.0%}" if "top5" in found else ""
        samples[case.prompt] = (drawn[number], note)
    return Findings({"prompts": rows}, samples)
