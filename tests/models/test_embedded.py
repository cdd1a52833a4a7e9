"""The models that ship: they load in plain diffusers and draw what the service draws."""

from dataclasses import replace

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

from models.catalog import Catalog, embedded_folder
from models.engine import LocalEngine
from models.requests import GenerationRequest
from tests.models.shapes import largest_difference

SINGLE = ("bernese", "boxer", "chow-chow", "corgi", "doberman", "shih-tzu")


def test_the_shipped_models_are_whole_and_small() -> None:
    catalog = Catalog([embedded_folder()])
    kinds = {entry.manifest.name: entry.manifest.kind for entry in catalog.entries()}
    assert kinds == {
        "dogbooth-base": "base",
        "dogbooth-breeds": "adapter",
        "dogbooth-few-steps": "adapter",
        "biscuit": "adapter",
        **{f"dogbooth-{breed}": "adapter" for breed in SINGLE},
    }
    assert catalog.default_model() == "dogbooth-breeds"
    base, breeds = catalog.get("dogbooth-base"), catalog.get("dogbooth-breeds")
    assert "golden retriever" in base.manifest.breeds
    assert not set(base.manifest.breeds) & set(breeds.manifest.breeds)
    assert sum(p.stat().st_size for p in base.folder.rglob("*.safetensors")) < 60e6
    single = [catalog.get(f"dogbooth-{breed}") for breed in SINGLE]
    taught = [breed for model in single for breed in model.manifest.breeds]
    assert sorted(taught) == sorted(breeds.manifest.breeds)
    for adapter in (breeds, catalog.get("dogbooth-few-steps"), catalog.get("biscuit"), *single):
        assert sum(p.stat().st_size for p in adapter.folder.rglob("*.safetensors")) < 5e6


def draw(*requests: GenerationRequest) -> list[np.ndarray]:
    """One picture of each request, by the service's engine in one batch, values 0 to 255."""
    engine = LocalEngine(Catalog([embedded_folder()]), "cpu", "fp32", threads=1)
    try:
        handles = [engine.submit(request) for request in requests]
        return [np.asarray(handle.result().images[0].image, dtype=int) for handle in handles]
    finally:
        engine.close()


def test_plain_diffusers_draws_the_picture_of_the_service() -> None:
    catalog = Catalog([embedded_folder()])
    [ours] = draw(
        GenerationRequest(
            "un perro golden retriever", (5,), "dogbooth-base", steps=3, guidance_scale=4.0
        )
    )
    pipeline = StableDiffusionPipeline.from_pretrained(catalog.get("dogbooth-base").folder)
    pipeline.set_progress_bar_config(disable=True)
    plain = pipeline(
        "un perro golden retriever",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    plain = np.asarray(plain, dtype=int)
    assert ours.shape == plain.shape == (128, 128, 3)
    assert largest_difference(ours, plain) <= 2


def test_the_upscaler_in_plain_diffusers_draws_the_large_picture_of_the_service() -> None:
    folder = Catalog([embedded_folder()]).get("dogbooth-base").folder
    request = GenerationRequest(
        "a photo of a Samoyed", (5,), "dogbooth-base", steps=3, guidance_scale=4.0
    )
    ours, small = draw(replace(request, upscale=2), request)
    upscaler = AutoencoderKL.from_pretrained(folder / "upscaler")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, vae=upscaler)
    pipeline.set_progress_bar_config(disable=True)
    plain = pipeline(
        request.prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert ours.shape == (256, 256, 3)
    assert largest_difference(ours, np.asarray(plain, dtype=int)) <= 2
    shrunk = ours.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 10  # the same dog: other seeds' differ by 44 and more


def test_few_steps_beside_the_base_draw_what_plain_diffusers_draws() -> None:
    prompt, catalog = "a photo of a golden retriever", Catalog([embedded_folder()])
    few, slow = draw(
        GenerationRequest(prompt, (5,), "dogbooth-few-steps"),
        GenerationRequest(prompt, (5,), "dogbooth-base"),
    )
    pipeline = StableDiffusionPipeline.from_pretrained(catalog.get("dogbooth-base").folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(catalog.get("dogbooth-few-steps").folder)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing"
    )
    plain = pipeline(
        prompt,
        num_inference_steps=4,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert largest_difference(few, np.asarray(plain, dtype=int)) <= 2
    assert np.abs(few - slow).mean() < 20  # the same dog: other seeds' differ by 44 and more
