"""Five animals of the DreamBooth dataset: does each model draw its own, and what did it cost?

`python -m benchmarks subjects` trains on each by the trainer's own command and defaults, with a
third of the photos held out, and writes docs/subjects.md and docs/subjects.jpg beside the JSON.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.servers import Setting
from data.sheet import contact_sheet
from models.catalog import Catalog, embedded_folder
from training.evaluation.drawing import Drawer, reconstruct
from training.evaluation.judge import Judge
from training.evaluation.metrics import (
    class_drift,
    copying,
    cosine_similarities,
    subject_similarity,
)
from training.evaluation.photos import RealPhotos, crop_photos
from training.pictures import to_pictures

Figures = dict[str, Any]
ROOT = Path(__file__).parents[1]
PHOTOS = ROOT.parent / "shared/data/dreambooth_subjects"
SUBJECTS = {
    "dog": ("rex", "dog"),
    "dog2": ("luna", "dog"),
    "dog3": ("milo", "dog"),
    "dog6": ("coco", "dog"),
    "cat": ("nala", "cat"),
}
"""Folder of photos -> name and class."""
BASE = "dogbooth-base"
SEEDS = 32
SHOWN = 6
MUST = "own similarity above the base's and every other model's by 2 standard errors"


@dataclass(frozen=True)
class Subject:
    """One animal: its photos, split, and the judge's features of them."""

    key: str
    name: str
    class_word: str
    training: Path
    """A folder of the photos to train on."""
    held_out: Path

    @property
    def prompt(self) -> str:
        return f"a photo of {self.name} {self.class_word}"

    @property
    def class_prompt(self) -> str:
        return f"a photo of a {self.class_word}"


def subjects(setting: Setting) -> Figures:
    """Trains the five models, draws and judges; the matrix of similarities, drift and copies."""
    if not PHOTOS.is_dir():
        return {"must": MUST, "holds": True, "skipped": "no ../shared/data/dreambooth_subjects"}
    with TemporaryDirectory() as name:
        home = Path(name)
        animals = [split(key, home / "photos") for key in SUBJECTS]
        seconds = {animal.key: train(animal, home, setting.threads) for animal in animals}
        catalog = Catalog([home / "models", embedded_folder()])
        figures, rows = measure(animals, catalog)
        figures |= {"seconds": seconds, "must": MUST}
        figures["holds"] = all(each["clear"] for each in figures["models"].values())
    notes = {
        animal.key: f"{figures['base'][animal.key]:.2f} to "
        f"{figures['models'][animal.key]['similarity'][animal.key]:.2f}"
        for animal in animals
    }
    pictures = {key: to_pictures(row.float() / 127.5 - 1) for key, row in rows.items()}
    contact_sheet(pictures, notes).save(ROOT / "docs/subjects.jpg", quality=92)
    (ROOT / "docs/subjects.md").write_text(page(figures), encoding="utf-8")
    return figures


def split(key: str, folder: Path) -> Subject:
    """Copy the photos of one subject into two folders; the last third is held out."""
    name, class_word = SUBJECTS[key]
    photos = sorted((PHOTOS / key).glob("*.jpg"))
    kept = len(photos) - len(photos) // 3
    parts = {"training": photos[:kept], "held_out": photos[kept:]}
    for part, chosen in parts.items():
        target = folder / key / part
        target.mkdir(parents=True)
        for photo in chosen:
            shutil.copy(photo, target)
    return Subject(key, name, class_word, folder / key / "training", folder / key / "held_out")


def train(animal: Subject, home: Path, threads: int, options: Sequence[str] = ()) -> float:
    """Train and publish as a user would; the seconds that it took."""
    command = [sys.executable, "-m", "training", "dreambooth", "--photos", str(animal.training)]
    command += ["--name", animal.name, "--class", animal.class_word, *options]
    environment = os.environ | {"DOGBOOTH_HOME": str(home), "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{animal.key}: {done.stderr[-2000:]}")
    print(f"{animal.key}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    return time.perf_counter() - started


def measure(animals: Sequence[Subject], catalog: Catalog) -> tuple[Figures, dict[str, Tensor]]:
    """Every model's pictures beside every subject's held-out photos; rows for the grid."""
    judge, side = Judge(), catalog.get(BASE).manifest.resolution
    with Drawer(catalog, SEEDS) as drawer:
        prompts = list(dict.fromkeys(p for a in animals for p in (a.prompt, a.class_prompt)))
        drawn = dict(zip(prompts, drawer.draw(BASE, prompts, BASE), strict=True))
        own = {a.key: drawer.draw(a.name, [a.prompt, a.class_prompt], a.name) for a in animals}
    before = {prompt: judge(pictures).features for prompt, pictures in drawn.items()}
    held_out = {a.key: photos(a, a.held_out, side) for a in animals}
    known = {a.key: photos(a, a.training, side) for a in animals}
    features = {a.key: judge(own[a.key][0]).features for a in animals}
    real = {key: judge(crops.pictures).features for key, crops in held_out.items()}

    figures: Figures = {"base": {}, "photos": {}, "autoencoder": {}, "models": {}}
    for a in animals:
        rebuilt = reconstruct(catalog.get(BASE).manifest, catalog, known[a.key].pictures)
        taught = judge(known[a.key].pictures).features
        figures["base"][a.key] = subject_similarity(before[a.prompt], real[a.key])
        figures["photos"][a.key] = subject_similarity(taught, real[a.key])
        figures["autoencoder"][a.key] = subject_similarity(judge(rebuilt).features, real[a.key])
    for a in animals:
        others = [features[b.key] for b in animals if b is not a] + [before[a.prompt]]
        margins = [margin(features[a.key], other, real[a.key]) for other in others]
        views = torch.stack([features[a.key], judge(own[a.key][0].flip(-1)).features])
        taught = judge(known[a.key].pictures).features
        figures["models"][a.key] = {
            "similarity": {
                b.key: subject_similarity(features[a.key], real[b.key]) for b in animals
            },
            "margin": min(margins),
            "clear": min(margins) > 2,
            "class_drift": class_drift(before[a.class_prompt], judge(own[a.key][1]).features),
            "copies": copying(views, taught, known[a.key].photo).rate,
        }
    rows = {a.key: torch.cat([drawn[a.prompt][:2], own[a.key][0][:SHOWN]]) for a in animals}
    return figures, rows


def photos(animal: Subject, folder: Path, side: int) -> RealPhotos:
    """Head and whole of each photo in `folder`, as training crops them."""
    return crop_photos(folder, side, animal.name, animal.class_word)


def margin(own: Tensor, other: Tensor, real: Tensor) -> float:
    """By how many standard errors pictures `own` are more like `real` than `other` are."""
    a, b = (cosine_similarities(features, real).mean(dim=1) for features in (own, other))
    return float((a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt())


def page(figures: Figures) -> str:
    """docs/subjects.md."""
    keys = list(SUBJECTS)
    head = ["pictures of", *keys, "margin", "class drift", "copies"]
    lines = [head, ["---"] * len(head)]
    lines.append([f"`{BASE}`", *(f"{figures['base'][key]:.3f}" for key in keys), "", "", ""])
    for key in keys:
        model = figures["models"][key]
        row = [f"{model['similarity'][other]:.3f}" for other in keys]
        row[keys.index(key)] = f"**{row[keys.index(key)]}**"
        lines.append(
            [
                f"model of {key}",
                *row,
                f"{model['margin']:.1f}",
                f"{model['class_drift']:.3f}",
                f"{model['copies']:.0%}",
            ]
        )
    for kind, label in (
        ("autoencoder", "training photos through the autoencoder"),
        ("photos", "training photos"),
    ):
        lines.append([label, *(f"{figures[kind][key]:.3f}" for key in keys), "", "", ""])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return PAGE.format(table=table, seeds=SEEDS, minutes=sum(figures["seconds"].values()) / 60)


PAGE = """# Five animals

`python -m benchmarks subjects` wrote this page: five animals of the DreamBooth dataset, learned
by `python -m training dreambooth --photos ... --name ...` with its defaults on the embedded base, a
third of the photos held out. All five took {minutes:.0f} minutes of training.

Similarity is the mean cosine of EfficientNet-Lite2 features of {seeds} pictures ("a photo of rex
dog", seeds from 0) and the held-out photos of the animal that the column names; the base draws the
same prompts. "margin" says by how many standard errors a model's pictures are more like its own
animal than the best of the base's and of the other models' pictures are. "class drift" is the
cosine distance of "a photo of a dog" (or cat) before and after, seed by seed; "copies" the share of
pictures that lie much nearer to one training photo than to any other.

{table}

![Each animal: two pictures of the base, six of its model](subjects.jpg)

*Drawn pictures only, nothing picked: a row an animal; the first two columns are the base's (seeds
0 and 1), the others the trained model's (seeds 0 to 5). Under each name: similarity before and
after.*
"""
