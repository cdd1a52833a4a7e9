"""Ways to fine-tune, on one budget and in one table: `python -m training.labs.finetuning`.

Every row is a run of `python -m training dreambooth` on the same photos, with as many steps of as
many rows and the same random numbers; what differs is what is trained, and along which schedule.
All that was trained draws the same prompts by the same seeds, and one judge looks at all.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from matplotlib.figure import Figure
from torch import Tensor

from data.sheet import PER_ROW, contact_sheet
from models.catalog import Catalog, embedded_folder
from models.pipeline import load_pipeline
from training.checkpoints import save_pipeline
from training.config import ConfigError, build, check_least
from training.dreambooth import dreambooth
from training.dreambooth_config import DreamBoothConfig
from training.evaluation.breeds import mean_rates
from training.evaluation.cases import taught_cases
from training.evaluation.drawing import Drawer
from training.evaluation.judge import Judge
from training.evaluation.metrics import class_drift, diversity, kid
from training.evaluation.photos import RealPhotos, read_photos
from training.evaluation.plots import bytes_to_pictures
from training.evaluation.setting import rates
from training.labs.accumulation import compare_parts
from training.labs.runs import Columns, chart, column, markdown, open_run, run_lab
from training.optimizers import shares_of_rate
from training.prepared import names_meant, read_prepared
from training.report import Report, say

UNTRAINED = "untrained"
"""The base with a U-Net of random weights, to begin from scratch."""
BASE = "the base"
FEWEST = 7
"""Test photos to measure a distance to."""
COLUMNS: Columns = {
    **column("parameters", ".2f", "million weights trained", 1e-6),
    **column("memory_bytes", ".0f", "MiB", 2**-20),
    **column("step_seconds", ".0f", "ms a step", 1000),
    **column("held_out", ".3f", "held-out loss"),
    **column("class_rate", ".0%", "class"),
    **column("top5", ".0%", "breed in top 5"),
    **column("kid", ".0f", "KID-EffLite x 1000", 1000),
    **column("diversity", ".2f", "diversity"),
    **column("drift", ".2f", "class drift"),
}


@dataclass(frozen=True)
class FinetuningConfig:
    """The options of the command."""

    dataset: Path = Path("artifacts/data/stanford_dogs")
    """A folder that `python -m data prepare` or `python -m data kinds` wrote."""
    breeds: tuple[str, ...] = ()
    """Of the dataset, best some that the base does not know; all without it."""
    name: str = "finetuning"
    base: str = "dogbooth-base"
    steps: int = 120
    batch_size: int = 16
    """Rows of a step; a multiple of 4, as one run has them in four parts."""
    ranks: tuple[int, ...] = (2, 8, 32)
    """Of the LoRAs; the middle one is what the schedules are tried on."""
    schedules: tuple[str, ...] = ("cosine", "constant", "constant_with_warmup", "one_cycle")
    """The first one is that of all other runs."""
    runs: tuple[str, ...] = ()
    """Rows of the table; all without it."""
    seeds: int = 16
    """Pictures of each prompt."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, {"steps": 1, "batch_size": 4, "seeds": 2})
        if self.batch_size % 4:
            raise ConfigError(f"batch_size: {self.batch_size} is no multiple of 4")
        for key in ("ranks", "schedules"):
            if not getattr(self, key):
                raise ConfigError(f"{key}: none is named")


# What is tried --------------------------------------------------------------------------------


def variants(config: FinetuningConfig) -> dict[str, DreamBoothConfig]:
    """The settings of every run by its row's name; ConfigError for a setting that is none."""
    middle = config.ranks[len(config.ranks) // 2]
    usual, *others = config.schedules
    lora = {"method": "lora", "rank": middle, "train_text_encoder": False}
    part = config.batch_size // 4
    settings: dict[str, dict[str, Any]] = {
        "from scratch": {"method": "full", "base": UNTRAINED, "learning_rate": 1e-3},
        "full": {"method": "full"},
        "full, text encoder too": {"method": "full", "train_text_encoder": True},
        "cross attention only": {"method": "full", "train_only": ("attn2",)},
        "upper half only": {"method": "full", "train_only": ("up_blocks", "conv_out")},
        **{f"LoRA, rank {rank}": lora | {"rank": rank} for rank in config.ranks},
        f"LoRA, rank {middle}, text encoder too": lora | {"train_text_encoder": True},
        f"LoRA, rank {middle}, four parts": lora | {"batch_size": part, "gradient_accumulation": 4},
        **{
            f"LoRA, rank {middle}, {schedule}": lora | {"schedule": schedule} for schedule in others
        },
    }
    if unknown := set(config.runs) - set(settings):
        raise ConfigError(f"runs: {', '.join(sorted(unknown))} is none of: {'; '.join(settings)}")
    shared = {
        "dataset": config.dataset,
        "breeds": config.breeds,
        "split": "train",
        "base": config.base,
        "prior": "none",
        "frontal_bias": 6.0,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "schedule": usual,
        "validate_every": max(1, config.steps // 10),
        "sample_images": 0,
        "early_stop": 0.0,
        "checkpoint_every": 0,
        "seed": config.seed,
        "replace": True,
    }
    made = {}
    for name, own in settings.items():
        values: dict[str, Any] = shared | own
        values["name"] = re.sub(r"[^a-z0-9]+", "-", name.lower())
        values["warmup"] = warmup(values["schedule"], config.steps)
        made[name] = build(DreamBoothConfig, values)
    return {name: made[name] for name in config.runs or made}


def warmup(schedule: str, steps: int) -> int:
    """A tenth of the steps for the schedule that has its name of it; the others show themselves."""
    return steps // 10 if schedule == "constant_with_warmup" else 0


def publish_untrained(config: FinetuningConfig, catalog: Catalog) -> None:
    """The base once more, its autoencoder and text encoder as they are, its U-Net untaught."""
    pipeline = load_pipeline(config.base, catalog, torch.device("cpu"), torch.float32)
    torch.manual_seed(config.seed)
    pipeline.register_modules(unet=UNet2DConditionModel.from_config(pipeline.unet.config))
    told = {"name": UNTRAINED, "breeds": [], "training": {}, "evaluation": {}, "kind": "base"}
    manifest = catalog.get(config.base).manifest.model_copy(update=told)
    with catalog.publish(manifest, replace=True) as folder:
        save_pipeline(pipeline, folder)


# What each costs ------------------------------------------------------------------------------


class Clock(Report):
    """Notes when a run said what."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}
        self.estimate: dict[str, Any] = {}
        self.held_out: list[tuple[int, float]] = []

    @property
    def wanted(self) -> bool:
        return True

    def event(self, name: str, **fields: Any) -> None:
        self.at[name] = time.monotonic()
        if name == "estimate":
            self.estimate = fields
        if name == "validation":
            self.held_out.append((fields["step"], fields["loss"]))


def train(config: DreamBoothConfig, catalog: Catalog, work: Path) -> dict[str, Any]:
    """Train and publish; what it cost. A run that was finished before is not done again."""
    path = work / f"{config.name}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    clock = Clock()
    dreambooth(config, catalog, work, clock)
    cost = {
        "parameters": clock.estimate["parameters"],
        "memory_bytes": clock.estimate["memory_bytes"],
        "seconds": clock.at["evaluating"] - clock.at["running"],
        "losses": clock.held_out,
        "held_out": clock.held_out[-1][1],
    }
    cost["step_seconds"] = cost["seconds"] / config.steps
    path.write_text(json.dumps(cost) + "\n", encoding="utf-8")
    return cost


# What each gives ------------------------------------------------------------------------------


def judge_all(
    config: FinetuningConfig, models: Mapping[str, str], photos: RealPhotos, catalog: Catalog
) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """Metrics and pictures `[P, S, 3, H, W]` of each of `models`, catalog names by row's names.

    The first is the base, from which the drift of the class is measured.
    """
    cases = taught_cases(sorted(set(photos.names)), photos)
    kept = catalog.get(config.base).manifest.class_prompt
    prompts = [case.prompt for case in cases] + [kept or f"a photo of a {photos.shown.word}"]
    judge = Judge()
    reference = judge(photos.pictures[photos.rows("test", photos.best_crop)]).features
    scores: dict[str, dict[str, Any]] = {}
    drawn: dict[str, Tensor] = {}
    before: list[Tensor] = []
    with Drawer(catalog, config.seeds) as drawer:
        for name, model in models.items():
            pictures = drawer.draw(model, prompts, name)
            *own, of_class = [judge(of_prompt) for of_prompt in pictures]
            before.append(of_class.features)
            told = [rates(found, case) for found, case in zip(own, cases, strict=True)]
            scores[name] = {
                **mean_rates(told),
                "kid": kid(torch.cat([found.features for found in own]), reference).mean,
                "diversity": sum(diversity(found.features) for found in own) / len(own),
                "drift": max(0.0, class_drift(before[0], of_class.features)),
            }
            drawn[name] = pictures[:-1]
    return scores, drawn


def curves(config: FinetuningConfig, rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Held-out losses over the steps, and the schedules' shares of the rate."""
    told = {name: row["losses"] for name, row in rows.items() if "losses" in row}
    steps = range(config.steps)
    return chart(
        {
            "held-out loss": {
                name: ([step for step, _ in pairs], [loss for _, loss in pairs])
                for name, pairs in told.items()
            },
            "share of the rate": {
                name: (steps, shares_of_rate(name, warmup(name, config.steps), config.steps))
                for name in config.schedules
            },
        }
    )


def run(config: FinetuningConfig, home: Path) -> Path:
    """Train, judge, and write into `home`/NAME: table, metrics, curves, pictures, accumulation."""
    made = variants(config)
    catalog = Catalog([home / config.name / "models", home.parent / "models", embedded_folder()])
    resolution = catalog.get(config.base).manifest.resolution
    names = names_meant(read_prepared(config.dataset)[0], config.breeds)
    photos = read_photos(config.dataset, resolution, sorted(names) or None)
    count = len(photos.rows("test", photos.best_crop))
    if count < FEWEST:
        raise ConfigError(
            f"dataset: its test list has {count} photos of these, {FEWEST} are needed"
        )
    folder = home / config.name
    open_run(folder, config, photos.fingerprint)
    publish_untrained(config, catalog)
    rows: dict[str, dict[str, Any]] = {BASE: {}}
    for number, (name, own) in enumerate(made.items(), start=1):
        say(f"{number} of {len(made)}: {name}")
        rows[name] = train(own, catalog, folder)
    models = {BASE: config.base} | {name: own.name for name, own in made.items()}
    scores, drawn = judge_all(config, models, photos, catalog)
    rows = {name: row | scores[name] for name, row in rows.items()}
    whole = variants(replace(config, runs=()))["full"]
    parts = compare_parts(whole, catalog, folder)
    record = {"runs": rows, "accumulation": parts}
    (folder / "finetuning.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(markdown(rows, COLUMNS) + "\n", encoding="utf-8")
    curves(config, rows).savefig(folder / "curves.png", dpi=90)
    each = max(1, PER_ROW // len(set(photos.names)))  # pictures of every breed in a row
    shown = {name: bytes_to_pictures(p[:, :each].flatten(0, 1)) for name, p in drawn.items()}
    notes = {name: f"{row['seconds']:.0f} s" for name, row in rows.items() if "seconds" in row}
    contact_sheet(shown, notes).save(folder / "pictures.png")
    print(markdown(rows, COLUMNS))
    return folder


if __name__ == "__main__":
    sys.exit(run_lab(FinetuningConfig, run, "training.labs.finetuning", __doc__))
