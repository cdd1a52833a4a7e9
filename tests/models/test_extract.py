"""A checkpoint's change becomes a LoRA that draws the same and shares a batch with others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import ModelRefused
from models.formats.components import read_components
from models.formats.exporting import read_layers
from models.formats.extract import extract_lora, low_rank
from models.requests import GenerationRequest
from tests.models.shapes import draw, largest_difference, shaped_pipeline
from tests.tiny import publish_adapter, publish_base, tiny_manifest

KEYS = (
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "mid_block.resnets.0.conv1",
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog([tmp_path / "models"])
    publish_base(catalog, "tiny")
    pipeline = shaped_pipeline("tiny")
    torch.manual_seed(5)
    for key in KEYS:
        weight = pipeline.unet.get_submodule(key).weight
        change = torch.randn(weight.shape[0], 2) @ torch.randn(2, weight[0].numel())
        weight.data += 0.3 * change.reshape(weight.shape)
    layer = pipeline.text_encoder.encoder.layers[0]
    layer.self_attn.q_proj.weight.data += torch.randn(16, 1) @ torch.randn(1, 16)
    layer.mlp.fc1.weight.data += torch.randn(32, 1) @ torch.randn(1, 16)
    manifest = tiny_manifest("full", kind="checkpoint", base="tiny", instance_prompts=["a dog"])
    with catalog.publish(manifest) as folder:
        pipeline.save_pretrained(folder)
    return catalog


def test_the_change_of_known_rank_is_found_and_draws_the_same(catalog: Catalog) -> None:
    made = extract_lora("full", "slim", catalog, energy=0.99999)
    entry = catalog.get("slim")
    layers = read_layers(entry, read_components(catalog.get("tiny").folder))
    assert {name: layer.rank for name, layer in layers["unet"].items()} == dict.fromkeys(KEYS, 2)
    assert {layer.rank for layer in layers["text_encoder"].values()} == {1}
    assert (made.layers, made.smallest_rank, made.largest_rank) == (4, 1, 2)
    assert made.energy > 0.9999
    assert made.left_out < 1e-6
    assert (entry.manifest.kind, entry.manifest.base) == ("adapter", "tiny")
    assert entry.manifest.instance_prompts == ["a dog"]
    full = draw(catalog, "full")
    assert largest_difference(full, draw(catalog, "tiny")) > 10
    assert largest_difference(full, draw(catalog, "slim")) <= 1


def test_it_shares_a_batch_with_other_adapters(catalog: Catalog) -> None:
    publish_adapter(catalog, "rex")
    extract_lora("full", "slim", catalog, energy=0.99999)
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    names = ("slim", "rex", "tiny", "full")
    for name in names:
        engine.submit(GenerationRequest("a dog", (1,), name, steps=1)).result(60)
    handles = [engine.submit(GenerationRequest("a dog", (1,), name, steps=4)) for name in names]
    slim, rex, tiny, full = (
        np.asarray(handle.result(60).images[0].image, dtype=int) for handle in handles
    )
    engine.close()
    assert largest_difference(slim, full) <= 2
    assert min(largest_difference(rex, tiny), largest_difference(slim, tiny)) > 10


def test_the_rank_is_the_least_that_holds_the_energy() -> None:
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(6, 4))
    v, _ = torch.linalg.qr(torch.randn(8, 4))
    matrix = u @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 1.0])) @ v.T  # squares 9, 4, 1, 1 of 15
    for energy, rank in ((0.5, 1), (0.59, 1), (0.61, 2), (0.86, 2), (0.9, 3), (0.99, 4)):
        layer, held = low_rank(matrix, energy)
        assert layer.rank == rank, energy
        assert held == pytest.approx([9, 13, 14, 15][rank - 1], rel=1e-4)
    layer, _ = low_rank(matrix, 0.99, rank=2)
    rest = matrix - layer.up.float() @ layer.down.float()
    assert float(rest.square().sum()) == pytest.approx(2, rel=1e-2)
    assert low_rank(matrix, 0.99, rank=100)[0].rank == 6


def test_what_cannot_be_extracted_says_why(catalog: Catalog) -> None:
    publish_base(catalog, "same", kind="checkpoint", base="tiny")
    publish_base(catalog, "alone")
    publish_adapter(catalog, "rex")
    cases = [
        ("same", {}, "same: no layer of it differs from tiny"),
        ("alone", {}, "alone: its manifest names no base"),
        ("rex", {}, "rex: is an adapter already"),
        ("full", {"rank": 0}, "rank 0: must be at least 1"),
        ("full", {"energy": 1.5}, "energy 1.5: must be above 0"),
    ]
    for model, options, message in cases:
        with pytest.raises(ModelRefused, match=message):
            extract_lora(model, "slim", catalog, **options)
    assert "slim" not in [entry.manifest.name for entry in catalog.entries()]
