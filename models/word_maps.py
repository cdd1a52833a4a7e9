"""Where a picture shows each word: `python -m models attention "a golden retriever, asleep"`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from models.catalog import Catalog
from models.grids import labelled
from models.overlay import mean_share, overlay
from models.requests import GeneratedImage, GenerationRequest


def add_attention(commands: Any) -> None:
    """Add `attention`; it sets `run(options, catalog)`."""
    command = commands.add_parser("attention", help="where the U-Net looks for each word")
    command.add_argument("prompt")
    command.add_argument("--model", help="a catalog name (default: the service's default model)")
    command.add_argument("--steps", type=int, help="default: the model's, as with what follows")
    command.add_argument("--guidance-scale", type=float)
    command.add_argument("--scheduler")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--output", type=Path, default=Path("attention.png"))
    command.set_defaults(run=_attention)


def _attention(options: argparse.Namespace, catalog: Catalog) -> str:
    request = GenerationRequest(
        prompt=options.prompt,
        seeds=(options.seed,),
        model=options.model or catalog.default_model(),
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        scheduler=options.scheduler,
    )
    drawn = draw_watched(request, catalog)
    heat_picture(drawn).save(options.output)
    shares = ", ".join(f"{word} {share:.1%}" for word, share in word_shares(drawn).items())
    return f"attention of a pixel, mean: {shares}; {options.output}"


def draw_watched(request: GenerationRequest, catalog: Catalog) -> GeneratedImage:
    """The first picture of `request`, with its attention, through an engine of its own."""
    from models.engine import LocalEngine

    engine = LocalEngine(catalog)
    try:
        return engine.submit(replace(request, attention=True)).result().images[0]
    finally:
        engine.close()


def word_shares(drawn: GeneratedImage) -> dict[str, float]:
    """The mean attention that each word got; what is left went to start, end and padding."""
    shares: dict[str, float] = {}
    for each in drawn.attention:
        shares[each.word] = shares.get(each.word, 0.0) + mean_share(each.heat)
    return shares


def heat_picture(drawn: GeneratedImage) -> Image.Image:
    """The picture, and beside it the map of each word over it."""
    maps = [overlay(drawn.image, each.heat) for each in drawn.attention]
    return labelled([[drawn.image, *maps]], ["", *(each.word for each in drawn.attention)])
