"""Pictures of an evaluation: samples by breed, rates beside their ceilings, nearest photos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from data.sheet import contact_sheet
from training.evaluation.card import RATE_MEANINGS, main_rate
from training.pictures import grid

SAMPLES = 6
"""Pictures of each prompt on the sheet: the first seeds, nothing picked."""


def bytes_to_pictures(pictures: Tensor) -> list[Image.Image]:
    """Bytes `[N, 3, H, W]` as RGB pictures."""
    return [Image.fromarray(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]


def sample_sheet(samples: Mapping[str, tuple[Tensor, str]]) -> Image.Image:
    """A row of small pictures for each breed or prompt, with its note."""
    rows = {name: bytes_to_pictures(drawn[:SAMPLES]) for name, (drawn, _) in samples.items()}
    return contact_sheet(rows, {name: note for name, (_, note) in samples.items()})


def neighbour_sheet(neighbours: Tensor, groups: int = 3) -> Image.Image:
    """`[N, 3, 3, H, W]`: picture, nearest photo by features, by pixels; `groups` triples a row."""
    return grid(bytes_to_pictures(neighbours.flatten(0, 1)), columns=3 * groups)


def breed_chart(record: Mapping[str, Any], path: Path) -> None:
    """Main rate of every breed: bars of what the model draws, marks of the ceilings."""
    rate = main_rate(record["sets"])
    breeds = sorted(record["breeds"], key=lambda row: row["drawn"][rate])
    places = range(len(breeds))
    figure = Figure(figsize=(8, 1.4 + 0.28 * len(breeds)), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, [row["drawn"][rate] for row in breeds], color="#7aa6c2", label="English")
    marks = {
        "spanish": ("Spanish", "o", "#c2571a"),
        "before": ("before training", "x", "#777777"),
        "reconstructed": ("photos through the autoencoder", "<", "#5b8c5a"),
        "real": ("photos", "|", "#000000"),
    }
    for kind, (label, marker, colour) in marks.items():
        if kind in breeds[0]:
            values = [row[kind][rate] for row in breeds]
            axes.scatter(values, places, marker=marker, color=colour, label=label, zorder=3)
    axes.set_yticks(places, [row["breed"] for row in breeds])
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(RATE_MEANINGS[rate])
    axes.set_title(f"{record['model']}: {record['settings']['seeds']} pictures a breed")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, format="png", dpi=90)
