from typing import Any

import pytest
from PIL import Image

from models.admission import largest_upscale, resolve, size_multiple
from models.catalog import Catalog
from models.errors import InvalidModel, InvalidRequest, ModelNotFound
from models.requests import GenerationRequest, Limits
from tests.tiny import add_upscaler, publish_adapter


def ask(catalog: Catalog, **fields: Any):
    request = GenerationRequest(**{"prompt": "a dog", "seeds": (1,), "model": "rex", **fields})
    return resolve(request, catalog, Limits(max_side=64, max_steps=20, max_images=2))


def test_defaults_come_from_the_model(catalog: Catalog) -> None:
    resolved = ask(catalog)
    assert (resolved.steps, resolved.guidance_scale, resolved.scheduler) == (2, 4.0, "ddim")
    assert (resolved.width, resolved.height) == (32, 32)


def test_what_is_asked_stays(catalog: Catalog) -> None:
    resolved = ask(catalog, steps=3, guidance_scale=0.0, scheduler="euler", width=48, client="me")
    assert (resolved.steps, resolved.guidance_scale, resolved.scheduler) == (3, 0.0, "euler")
    assert (resolved.width, resolved.height, resolved.client) == (48, 32, "me")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 40}, "width 40: the model 'rex' draws multiples of 16 only"),
        ({"height": 80}, "height 80: must be from 16 to 64"),
        ({"width": 0}, "width 0: must be from 16 to 64"),
        ({"steps": 0}, "steps 0: must be from 1 to 20"),
        ({"steps": 21}, "steps 21: must be from 1 to 20"),
        ({"guidance_scale": float("nan")}, "guidance_scale nan: must be"),
        ({"guidance_scale": 31.0}, "guidance_scale 31.0: must be"),
        ({"seeds": ()}, "n 0: must be from 1 to 2"),
        ({"seeds": (1, 2, 3)}, "n 3: must be from 1 to 2"),
        ({"preview_every": -1}, "preview_every -1: must be from 0 to 20"),
        ({"timeout": 0.0}, "timeout 0.0: must be above 0"),
        ({"strength": 0.0}, "strength 0.0: must be above 0 and at most 1"),
        ({"strength": 1.5}, "strength 1.5: must be above 0 and at most 1"),
        (
            {"init_image": Image.new("RGB", (8, 8)), "strength": 0.1, "steps": 5},
            "strength 0.1: of 5 steps it leaves none",
        ),
        ({"prompt": "a (dog:99)"}, "prompt: the weight '99' is no number from 0 to 10"),
        ({"negative_prompt": "(x:-1)"}, "negative_prompt: the weight '-1' is no number"),
        ({"seeds": (2**32,)}, "seed 4294967296: must be"),
        ({"seeds": (-1,)}, "seed -1: must be"),
        ({"scheduler": "magic"}, "scheduler 'magic': one of ddim"),
    ],
)
def test_out_of_bounds_is_refused_with_field_and_value(
    catalog: Catalog, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(catalog, **fields)
    assert str(caught.value).startswith(message)


def test_an_unknown_model_is_not_found(catalog: Catalog) -> None:
    with pytest.raises(ModelNotFound, match="there are rex, tiny"):
        ask(catalog, model="max")


def test_an_adapter_of_a_base_elsewhere_draws_multiples_of_64(catalog: Catalog) -> None:
    publish_adapter(catalog, "far", base="someone/stable-diffusion")
    assert size_multiple(catalog.get("far"), catalog) == 64


def test_a_model_without_configs_is_invalid(catalog: Catalog) -> None:
    (catalog.get("tiny").folder / "unet" / "config.json").unlink()
    with pytest.raises(InvalidModel, match=r"tiny/unet/config.json"):
        ask(catalog)


def test_a_base_with_an_upscaler_draws_larger_pictures_and_says_how_much(catalog: Catalog) -> None:
    entry = catalog.get("rex")
    assert largest_upscale(entry, catalog) == 1
    with pytest.raises(InvalidRequest, match="upscale 2: the base of the model 'rex' has no"):
        ask(catalog, upscale=2)
    add_upscaler(catalog, "tiny")
    assert largest_upscale(entry, catalog) == 2
    assert ask(catalog, upscale=2).upscale == 2
    with pytest.raises(InvalidRequest, match="upscale 3: the model 'rex' takes 1 or 2"):
        ask(catalog, upscale=3)
    with pytest.raises(InvalidRequest, match="upscale 2: height 48 becomes 96, above 64"):
        ask(catalog, upscale=2, height=48)
