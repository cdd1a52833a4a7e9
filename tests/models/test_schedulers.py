import pytest
import torch

from models.errors import InvalidRequest
from models.generate import generate_image
from models.requests import ResolvedRequest
from models.schedulers import SCHEDULERS, check_scheduler, make_scheduler
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def pipeline():
    torch.set_num_threads(1)
    pipeline = tiny_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def config(pipeline):
    return pipeline.scheduler.config


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_draws_on_the_models_own_noise_schedule(
    pipeline, config, name, steps
) -> None:
    request = ResolvedRequest(
        "a dog", (1,), "tiny", steps=steps, guidance_scale=4.0, scheduler=name, width=32, height=32
    )
    image = generate_image(pipeline, config, request, seed=1)
    assert image.size == (32, 32)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"


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
