"""The commands of `python -m models explore`: grid, film, walk and denoising."""

import argparse
from pathlib import Path
from typing import Any

from PIL import Image

from models.admission import resolve
from models.catalog import Catalog
from models.errors import InvalidRequest
from models.grids import draw_grid, labelled, parse_axis
from models.requests import GenerationRequest, Limits, ResolvedRequest

DEFAULT_PROMPT = "a photo of a golden retriever"
FILM_FORMATS = (".gif", ".webp")
SHOWN = 8
"""Moments of a denoising in its picture."""


def add_explore(commands: Any) -> None:
    """Add `explore`; each of its commands sets `run(options, catalog)`."""
    explore = commands.add_parser("explore", help="what each setting of a drawing does")
    kinds = explore.add_subparsers(required=True, metavar="KIND")
    grid = kinds.add_parser("grid", help="pictures over one or two settings")
    grid.add_argument("--x", required=True, help="NAME=VALUE,VALUE,... as in steps=5,10,25")
    grid.add_argument("--y", help="a second axis")
    grid.add_argument(
        "--one-by-one", action="store_true", help="no batches: the seconds are a cell's own"
    )
    film = kinds.add_parser("film", help="from one seed or prompt to the next")
    film.add_argument("--between", required=True, help="seed=1,2,3 or prompt=ONE,TWO")
    film.add_argument("--frames", type=int, default=12, help="from one to the next (default: 12)")
    walk = kinds.add_parser("walk", help="a closed walk around one seed")
    walk.add_argument("--radius", type=float, default=0.5, help="an angle (default: 0.5)")
    walk.add_argument("--frames", type=int, default=24, help="of the whole walk (default: 24)")
    denoising = kinds.add_parser("denoising", help="one picture, step by step")
    for parser, run, output in (
        (grid, _grid, "grid.png"),
        (film, _film, "film.webp"),
        (walk, _walk, "walk.webp"),
        (denoising, _denoising, "denoising.png"),
    ):
        _add_settings(parser, output)
        parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("--prompt", default=DEFAULT_PROMPT)
    parser.add_argument("--negative-prompt", default="")
    parser.add_argument("--model", help="a catalog name (default: the service's default model)")
    parser.add_argument("--steps", type=int, help="default: the model's, as with what follows")
    parser.add_argument("--guidance-scale", type=float)
    parser.add_argument("--scheduler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(output))


def _request(options: argparse.Namespace, catalog: Catalog) -> GenerationRequest:
    return GenerationRequest(
        prompt=options.prompt,
        seeds=(options.seed,),
        model=options.model or catalog.default_model(),
        negative_prompt=options.negative_prompt,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        scheduler=options.scheduler,
    )


def _resolved(options: argparse.Namespace, catalog: Catalog) -> ResolvedRequest:
    """The settings, found good before any weight is read."""
    if "frames" in options:
        if options.frames < 1:
            raise InvalidRequest(f"frames {options.frames}: must be at least 1")
        if options.output.suffix.lower() not in FILM_FORMATS:
            formats = " or ".join(FILM_FORMATS)
            raise InvalidRequest(f"output {options.output.name}: a film ends in {formats}")
    return resolve(_request(options, catalog), catalog, Limits())


def _grid(options: argparse.Namespace, catalog: Catalog) -> str:
    x = parse_axis(options.x)
    y = parse_axis(options.y) if options.y else None
    drawn, picture = draw_grid(catalog, _request(options, catalog), x, y, options.one_by_one)
    picture.save(options.output)
    return f"{sum(map(len, drawn))} cells: {options.output}"


def _film(options: argparse.Namespace, catalog: Catalog) -> str:
    axis = parse_axis(options.between)
    if axis.name not in ("seed", "prompt") or len(axis.values) < 2:
        raise InvalidRequest(f"between {options.between!r}: two or more values of seed or prompt")
    stops = [
        _resolved(argparse.Namespace(**(vars(options) | {axis.name: value})), catalog)
        for value in axis.values
    ]
    from models.explore import between_prompts, between_seeds, open_pipeline, save_film

    pipeline = open_pipeline(stops[0].model, catalog)
    between = between_seeds if axis.name == "seed" else between_prompts
    frames = between(pipeline, stops, options.frames)
    save_film(frames, options.output)
    return f"{len(frames)} frames: {options.output}"


def _walk(options: argparse.Namespace, catalog: Catalog) -> str:
    request = _resolved(options, catalog)
    from models.explore import around, embed, film, noise_of, open_pipeline, save_film

    pipeline = open_pipeline(request.model, catalog)
    noise = noise_of(options.seed, request, pipeline)
    way = around(noise, options.radius, options.frames, options.seed + 1)
    frames = film(pipeline, way, embed([request.prompt], pipeline), request)
    save_film(frames, options.output)
    return f"{len(frames)} frames: {options.output}"


def _denoising(options: argparse.Namespace, catalog: Catalog) -> str:
    request = _resolved(options, catalog)
    picture = denoising_picture(request, catalog)
    picture.save(options.output)
    return f"{request.steps} steps: {options.output}"


def denoising_picture(request: ResolvedRequest, catalog: Catalog) -> Image.Image:
    """The latents, and what the U-Net takes them for, at some steps from noise to picture."""
    from models.explore import denoise, embed, noise_of, open_pipeline, pictures

    pipeline = open_pipeline(request.model, catalog)
    noise = noise_of(request.seeds[0], request, pipeline)
    moments = list(denoise(pipeline, noise, embed([request.prompt], pipeline), request))
    last = len(moments) - 1
    shown = sorted({round(number * last / (SHOWN - 1)) for number in range(SHOWN)})
    rows = [
        [pictures(pipeline, moments[index].latents)[0] for index in shown],
        [pictures(pipeline, moments[index].denoised)[0] for index in shown],
    ]
    columns = [f"step {index}, t = {moments[index].timestep}" for index in shown]
    return labelled(rows, columns, ["latents", "the U-Net's guess"])
