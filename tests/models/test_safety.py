"""A base that ships a safety checker: pictures are flagged, never blackened."""

import json
from collections.abc import Iterator

import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor

from models.catalog import Catalog
from models.engine import LocalEngine
from models.requests import GeneratedImage, GenerationRequest
from tests.tiny import tiny_manifest, tiny_pipeline


def tiny_checker(finds_all_unfit: bool) -> StableDiffusionSafetyChecker:
    """A checker of random weights whose thresholds decide."""
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    with torch.no_grad():
        for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
            weights.fill_(-2.0 if finds_all_unfit else 2.0)
    return checker


def publish(catalog: Catalog, name: str, finds_all_unfit: bool) -> None:
    pipeline = tiny_pipeline()
    with catalog.publish(tiny_manifest(name)) as folder:
        pipeline.save_pretrained(folder)
        tiny_checker(finds_all_unfit).save_pretrained(folder / "safety_checker")
        CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ).save_pretrained(folder / "feature_extractor")
        index = json.loads((folder / "model_index.json").read_text())
        index |= {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "requires_safety_checker": True,
        }
        (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture
def engine(catalog: Catalog) -> Iterator[LocalEngine]:
    publish(catalog, "strict", finds_all_unfit=True)
    publish(catalog, "mild", finds_all_unfit=False)
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1, safety_checker=True)
    yield engine
    engine.close()


def draw(engine: LocalEngine, model: str) -> GeneratedImage:
    [image] = engine.submit(GenerationRequest("a dog", (7,), model)).result(60).images
    return image


def test_what_the_checker_finds_unfit_is_flagged_and_stays_as_it_is(engine: LocalEngine) -> None:
    strict, mild, without = (draw(engine, model) for model in ("strict", "mild", "tiny"))
    assert (strict.flagged, mild.flagged, without.flagged) == (True, False, None)
    assert strict.image.tobytes() == mild.image.tobytes() == without.image.tobytes()
    assert strict.image.getextrema() != ((0, 0), (0, 0), (0, 0))


def test_nobody_is_asked_unless_it_is_wanted(catalog: Catalog) -> None:
    publish(catalog, "strict", finds_all_unfit=True)
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    assert draw(engine, "strict").flagged is None
    engine.close()
