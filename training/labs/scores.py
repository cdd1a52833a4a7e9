"""The labs' networks and the service's models in one table: `python -m training.labs.scores`.

All pictures are shrunk to one size before the judge sees them, and all are compared with the same
photos, which the labs did not train on.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data.breeds import find_breeds
from data.captions import with_article
from data.efficientnet import CLASS_OF_SYNSET
from models.catalog import Catalog, embedded_folder
from training.config import ConfigError
from training.evaluation.drawing import Drawer
from training.evaluation.judge import Judge, Judgement
from training.evaluation.metrics import (
    class_rate,
    diversity,
    kid,
    precision_recall_density_coverage,
    top_k_rate,
)
from training.labs.material import Material, read_material, resized
from training.labs.runs import Columns, column, load_samples, markdown, run_lab

FEWEST = 7
"""Pictures of which precision and recall by five neighbours mean anything."""
COLUMNS: Columns = {
    **column("seconds", ".1f", "minutes of training", 1 / 60),
    **column("pixels", "d", "px", 1),
    **column("class_rate", ".0%", "class"),
    **column("breed_top5", ".0%", "breed in top 5"),
    "kid": (
        "KID-EffLite x 1000",
        lambda row: f"{1000 * row['kid']:.0f} ± {1000 * row['kid_std']:.0f}",
    ),
    **column("precision", ".2f", "precision"),
    **column("recall", ".2f", "recall"),
    **column("density", ".2f", "density"),
    **column("coverage", ".2f", "coverage"),
    **column("diversity", ".2f", "diversity"),
}


@dataclass(frozen=True)
class ScoresConfig:
    """The options of the command."""

    dataset: Path = Path("artifacts/data/stanford_dogs")
    """What the runs were trained on."""
    breeds: tuple[str, ...] = ()
    runs: tuple[str, ...] = ("gan", "ddpm")
    """Finished runs of the labs."""
    models: tuple[str, ...] = ("dogbooth-base",)
    """Catalog names; each draws "a photo of ..." of every breed."""
    seeds: int = 64
    """Pictures of each breed that a model draws."""
    judged_at: int = 32
    """The size that all pictures are shrunk to, so that none gains by its resolution."""


def measure(
    found: Judgement, reference: Judgement, classes: Sequence[int], of_class: Sequence[int] = ()
) -> dict[str, float]:
    """The metrics of `python -m training evaluate`, of N pictures beside M real ones.

    `class_rate` is the share of pictures in which the judge sees one of `of_class` first, dogs say;
    `breed_top5` is the share with one of the breeds' `classes` among the judge's first five.
    """
    distance = kid(found.features, reference.features)
    # A picture of any of the breeds counts: the labs' networks are not told which to draw.
    merged = found.probabilities.clone()
    scores = {"class_rate": class_rate(found.probabilities, of_class)} if of_class else {}
    if classes:
        first, *others = classes
        merged[:, first] = merged[:, list(classes)].amax(dim=1)
        merged[:, others] = 0
        scores["breed_top5"] = top_k_rate(merged, first, 5)
    return scores | {
        "kid": distance.mean,
        "kid_std": distance.std,
        **precision_recall_density_coverage(found.features, reference.features),
        "diversity": diversity(found.features),
    }


def compare(
    sets: Mapping[str, Tensor],
    seconds: Mapping[str, float],
    material: Material,
    side: int,
    judge: Judge,
) -> list[dict[str, Any]]:
    """A row for each of `sets`, bytes `[N, 3, R, R]` by name, and one for training photos.

    `seconds` are those of training, where they are known. All pictures are judged at `side` px. All
    sets are cut to the size of the smallest, as coverage grows with the number of pictures.
    """
    breeds = {breed.name: breed for breed in find_breeds(["*"])}
    classes = [CLASS_OF_SYNSET[breeds[name].synset] for name in material.names if name in breeds]
    of_class = material.shown.imagenet if material.shown else ()
    edge = (material.pictures.shape[-1] - material.resolution) // 2
    inner = slice(edge, edge + material.resolution)
    everything = dict(sets) | {"training photos": material.pictures[..., inner, inner]}
    count = min(len(pictures) for pictures in everything.values())
    reference = judge(resized(material.held_out, side), progress="held-out photos")
    rows: list[dict[str, Any]] = []
    for name, pictures in everything.items():
        spread = pictures[:: len(pictures) // count][:count]
        found = judge(resized(spread, side), progress=name)
        rows.append(
            {
                "name": name,
                "seconds": seconds.get(name),
                "pixels": pictures.shape[-1],
                "judged_at": side,
                "count": count,
                "class": material.shown.word if material.shown else "class",
                **measure(found, reference, classes, of_class),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`compare`'s rows as a table in Markdown."""
    columns = COLUMNS | column("class_rate", ".0%", rows[0]["class"])
    return markdown({row["name"]: row for row in rows}, columns)


def draw_models(config: ScoresConfig, names: Sequence[str], home: Path) -> dict[str, Tensor]:
    """Bytes `[N, 3, H, W]` of each model, as many of each breed."""
    if not config.models:
        return {}
    prompts = [f"a photo of {with_article(name)}" for name in names]
    catalog = Catalog([home.parent / "models", embedded_folder()])
    with Drawer(catalog, config.seeds) as drawer:
        return {
            name: drawer.draw(name, prompts, name).transpose(0, 1).flatten(0, 1)
            for name in config.models
        }


def run(config: ScoresConfig, home: Path) -> Path:
    """Print the table, and write it to `home`/scores."""
    if not config.runs:
        raise ConfigError("runs: none is named")
    found = {name: load_samples(home / name) for name in config.runs}
    side = max(pictures.shape[-1] for pictures, _ in found.values())
    material = read_material(config.dataset, config.breeds, side)
    if len(material.held_out) < FEWEST:
        raise ConfigError(
            f"dataset: {str(config.dataset)!r} holds out {len(material.held_out)} photos, "
            f"{FEWEST} are needed"
        )
    for name, (_, record) in found.items():
        if record["breeds"] != material.names:
            raise ConfigError(
                f"runs: {name} learned {', '.join(record['breeds'])}, "
                f"not {', '.join(material.names)}"
            )
    sets = {name: pictures for name, (pictures, _) in found.items()}
    seconds = {name: record["seconds"] for name, (_, record) in found.items()}
    catalog_sets = draw_models(config, material.names, home)
    rows = compare(sets | catalog_sets, seconds, material, config.judged_at, Judge())
    folder = home / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"made": time.strftime("%Y-%m-%d"), "breeds": material.names, "rows": rows}
    (folder / "scores.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "scores.md").write_text(table(rows) + "\n", encoding="utf-8")
    print(table(rows))
    return folder


if __name__ == "__main__":
    sys.exit(run_lab(ScoresConfig, run, "training.labs.scores", __doc__))
