import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageStat

from models.__main__ import main
from models.admission import resolve
from models.catalog import Catalog
from models.explore import (
    around,
    between_prompts,
    between_seeds,
    denoise,
    embed,
    noise_of,
    open_pipeline,
    pictures,
    slerp,
)
from models.grids import Axis, draw_grid
from models.requests import GenerationRequest, Limits, ResolvedRequest

ROUNDING = 2.5
"""Of bf16, one sample at a time here, two rows at a time there."""


def request(catalog: Catalog, **fields: Any) -> ResolvedRequest:
    values: dict[str, Any] = {"prompt": "a dog", "seeds": (7,), "model": "rex", "steps": 3}
    return resolve(GenerationRequest(**(values | fields)), catalog, Limits())


def difference(a: Image.Image, b: Image.Image) -> float:
    """The mean one over pixels and colours, of 255."""
    return float(np.mean(ImageStat.Stat(ImageChops.difference(a, b)).mean))


@pytest.fixture(autouse=True)
def home(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))


def test_slerp_keeps_the_length_of_noise_and_ends_at_its_ends() -> None:
    a, b = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(slerp(a, b, 0, 3), a, atol=1e-5)
    assert torch.allclose(slerp(a, b, 1, 3), b, atol=1e-5)
    middle = float(slerp(a, b, 0.5, 3).norm())
    assert middle == pytest.approx(float(a.norm() + b.norm()) / 2, rel=0.05)
    assert torch.lerp(a, b, 0.5).norm() < 0.8 * a.norm()
    assert torch.allclose(slerp(a, a, 0.5, 3), a, atol=1e-5)


def test_a_walk_stays_at_its_angle_around_the_noise() -> None:
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    walk = around(noise, 0.5, 4, seed=1)
    cosines = torch.cosine_similarity(walk.flatten(1), noise.flatten(1))
    assert cosines.tolist() == pytest.approx([math.cos(0.5)] * 4, abs=0.05)
    assert not torch.equal(walk[0], walk[1])


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "dpmpp_2m_karras"])
def test_the_visible_loop_draws_what_the_engine_draws(catalog: Catalog, scheduler: str) -> None:
    asked = request(catalog, scheduler=scheduler, guidance_scale=3.0)
    [[drawn]], _ = draw_grid(catalog, asked, Axis("seed", (7,)))
    pipeline = open_pipeline("rex", catalog)
    noise = noise_of(7, asked, pipeline)
    *before, last = denoise(pipeline, noise, embed(["a dog"], pipeline), asked)
    assert difference(pictures(pipeline, last.latents)[0], drawn.image) < ROUNDING
    assert torch.allclose(before[-1].denoised, last.latents, atol=0.5)
    assert [m.timestep for m in before] == sorted((m.timestep for m in before), reverse=True)


def test_a_film_between_seeds_begins_and_ends_with_their_pictures(catalog: Catalog) -> None:
    stops = [request(catalog, seeds=(seed,)) for seed in (1, 2)]
    frames = between_seeds(open_pipeline("rex", catalog), stops, 3)
    [drawn], _ = draw_grid(catalog, stops[0], Axis("seed", (1, 2)))
    assert len(frames) == 4
    assert difference(frames[0], drawn[0].image) < ROUNDING
    assert difference(frames[-1], drawn[1].image) < ROUNDING


def test_a_film_between_prompts_begins_and_ends_with_their_pictures(catalog: Catalog) -> None:
    stops = [request(catalog, prompt=prompt) for prompt in ("a dog", "el perro grande")]
    frames = between_prompts(open_pipeline("rex", catalog), stops, 2)
    prompts = Axis("prompt", ("a dog", "el perro grande"))
    [drawn], _ = draw_grid(catalog, stops[0], prompts)
    assert len(frames) == 3
    assert difference(frames[0], drawn[0].image) < ROUNDING
    assert difference(frames[-1], drawn[1].image) < ROUNDING


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        (["grid", "--x", "steps=1,2", "--y", "scheduler=ddim,euler", "--output", "a.png"], 1),
        (["film", "--between", "seed=1,2,3", "--frames", "2", "--output", "a.webp"], 5),
        (["film", "--between", "prompt=a dog,a cat", "--frames", "2", "--output", "a.gif"], 3),
        (["walk", "--frames", "4", "--output", "a.webp"], 4),
        (["denoising", "--output", "a.png"], 1),
    ],
)
def test_a_command_writes_its_picture_or_film(
    line: list[str], frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explore", *line, "--model", "tiny", "--steps", "2"]) == 0
    with Image.open(tmp_path / line[-1]) as written:
        assert getattr(written, "n_frames", 1) == frames


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["grid", "--x", "scheduler=ddim,magic"], "scheduler 'magic': one of ddim"),
        (["grid", "--x", "steps=1", "--y", "steps=2"], "axes: both are steps"),
        (["grid", "--x", "model=tiny,nobody"], "nobody"),
        (["film", "--between", "steps=1,2"], "two or more values of seed or prompt"),
        (["film", "--between", "seed=1"], "two or more values of seed or prompt"),
        (["walk", "--output", "walk.png"], "output walk.png: a film ends in .gif or .webp"),
        (["walk", "--frames", "0"], "frames 0: must be at least 1"),
        (["denoising", "--scheduler", "magic"], "scheduler 'magic': one of ddim"),
    ],
)
def test_bad_input_is_one_line(
    line: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", *line, "--model", "tiny"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
