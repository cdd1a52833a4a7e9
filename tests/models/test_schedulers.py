from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import InvalidRequest
from models.pipeline import load_pipeline
from models.requests import GenerationRequest
from models.schedulers import SCHEDULERS, check_scheduler, make_scheduler
from tests.tiny import publish_base


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog([tmp_path_factory.mktemp("models")])
    publish_base(catalog)
    return catalog


@pytest.fixture(scope="module")
def engine(catalog: Catalog) -> Iterator[LocalEngine]:
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain(catalog: Catalog) -> StableDiffusionPipeline:
    """diffusers' own pipeline, nothing of ours in its loop."""
    return load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def config(plain):
    """As it was saved: from_config fills in a class's own defaults for what was never written."""
    return plain.scheduler.config


def draw(engine: LocalEngine, request: GenerationRequest) -> np.ndarray:
    """The engine's picture, made in the company of other requests."""
    company = GenerationRequest("un gato", (5, 6), "tiny", steps=7, guidance_scale=1.0)
    others = engine.submit(company)
    image = engine.submit(request).result(60).images[0].image
    others.result(60)
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_draws_what_diffusers_draws(engine, plain, config, name, guidance) -> None:
    plain.scheduler = make_scheduler(name, config)
    expected = plain(
        "a dog",
        negative_prompt="blurry",
        num_inference_steps=6,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(3),
        height=32,
        width=48,
    ).images[0]
    request = GenerationRequest(
        "a dog",
        (3,),
        "tiny",
        negative_prompt="blurry",
        steps=6,
        guidance_scale=guidance,
        scheduler=name,
        height=32,
        width=48,
    )
    assert np.abs(draw(engine, request) - np.asarray(expected, dtype=int)).max() <= 2


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_redraws_a_picture_as_diffusers_does(
    engine, plain, config, name, strength
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)
    components = {**plain.components, "scheduler": make_scheduler(name, config)}
    redraw = StableDiffusionImg2ImgPipeline(**components, requires_safety_checker=False)
    redraw.set_progress_bar_config(disable=True)
    expected = redraw(
        "a dog",
        picture,
        strength=strength,
        num_inference_steps=7,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    request = GenerationRequest(
        "a dog",
        (3,),
        "tiny",
        steps=7,
        guidance_scale=4.0,
        scheduler=name,
        init_image=picture,
        strength=strength,
    )
    assert np.abs(draw(engine, request) - np.asarray(expected, dtype=int)).max() <= 2


def test_a_variants_options_do_not_stick(config) -> None:
    make_scheduler("dpmpp_2m_karras", config)
    assert not make_scheduler("dpmpp_2m", config).config.use_karras_sigmas


def test_an_unknown_scheduler_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidRequest, match="scheduler 'magic': one of ddim, ddpm"):
        check_scheduler("magic", 10)


def test_lcm_takes_few_steps_only() -> None:
    check_scheduler("lcm", 50)
    with pytest.raises(InvalidRequest, match="steps 51: the scheduler 'lcm' takes at most 50"):
        check_scheduler("lcm", 51)
