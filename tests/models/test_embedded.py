"""The models that ship: they load in plain diffusers and draw what the service draws."""

import torch
from diffusers import StableDiffusionPipeline

from models.catalog import Catalog, embedded_folder
from models.engine import LocalEngine
from models.requests import GenerationRequest


def test_the_shipped_models_are_whole_and_small() -> None:
    catalog = Catalog([embedded_folder()])
    kinds = {entry.manifest.name: entry.manifest.kind for entry in catalog.entries()}
    assert kinds == {"dogbooth-base": "base", "dogbooth-breeds": "adapter"}
    assert catalog.default_model() == "dogbooth-breeds"
    base, breeds = catalog.get("dogbooth-base"), catalog.get("dogbooth-breeds")
    assert "golden retriever" in base.manifest.breeds
    assert not set(base.manifest.breeds) & set(breeds.manifest.breeds)
    assert sum(p.stat().st_size for p in base.folder.rglob("*.safetensors")) < 60e6
    assert sum(p.stat().st_size for p in breeds.folder.rglob("*.safetensors")) < 5e6


def test_plain_diffusers_draws_the_picture_of_the_service() -> None:
    catalog = Catalog([embedded_folder()])
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    try:
        request = GenerationRequest(
            "un perro golden retriever", (5,), "dogbooth-base", steps=3, guidance_scale=4.0
        )
        ours = engine.submit(request).result().images[0].image
    finally:
        engine.close()
    pipeline = StableDiffusionPipeline.from_pretrained(catalog.get("dogbooth-base").folder)
    pipeline.set_progress_bar_config(disable=True)
    plain = pipeline(
        "un perro golden retriever",
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    assert ours.size == plain.size == (128, 128)
    difference = torch.frombuffer(bytearray(ours.tobytes()), dtype=torch.uint8).int()
    difference -= torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8).int()
    assert difference.abs().max() <= 2
