import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import InvalidModel
from models.lora import LowRank, add_low_rank, read_adapter
from models.manifest import ADAPTER_FILE
from models.pipeline import load_pipeline
from models.requests import GenerationRequest
from tests.tiny import tiny_manifest, tiny_pipeline

UNET = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in"]
TEXT = ["q_proj", "v_proj"]


def publish(catalog: Catalog, name: str, rank: int, text: bool = False, alpha: float = 3.0) -> None:
    """An adapter as the trainer writes it, with random weights that change every picture."""
    torch.manual_seed(rank)
    pipeline = tiny_pipeline()
    targets = {"unet": UNET, "text_encoder": TEXT} if text else {"unet": UNET}
    layers, metadata = {}, {}
    for part, modules in targets.items():
        component = getattr(pipeline, part)
        config = LoraConfig(
            r=rank, lora_alpha=alpha, target_modules=modules, init_lora_weights=False
        )
        component.add_adapter(config)
        layers[part] = get_peft_model_state_dict(component)
        metadata[part] = component.peft_config["default"].to_dict()
    with catalog.publish(tiny_manifest(name, kind="adapter", base="tiny")) as folder:
        StableDiffusionPipeline.save_lora_weights(
            folder,
            unet_lora_layers=layers["unet"],
            text_encoder_lora_layers=layers.get("text_encoder"),
            unet_lora_adapter_metadata=metadata["unet"],
            text_encoder_lora_adapter_metadata=metadata.get("text_encoder"),
        )


def with_peft(catalog: Catalog, model: str) -> np.ndarray:
    pipeline = load_pipeline(model, catalog, torch.device("cpu"), torch.float32)
    image = pipeline(
        "a dog",
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    return np.asarray(image, dtype=int)


def test_adapters_of_any_rank_and_base_rows_share_a_batch_and_equal_peft(catalog: Catalog) -> None:
    publish(catalog, "one", rank=2)
    publish(catalog, "two", rank=5)
    publish(catalog, "three", rank=3, text=True)
    names = ["one", "tiny", "two", "three", "rex"]
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    for name in names:  # loaded first, so that they then run together
        engine.submit(GenerationRequest("a dog", (1,), name, steps=1)).result(60)
    handles = [
        engine.submit(GenerationRequest("a dog", (1,), name, steps=5, guidance_scale=4.0))
        for name in names
    ]
    drawn = [np.asarray(handle.result(60).images[0].image, dtype=int) for handle in handles]
    engine.close()
    for name, picture in zip(names, drawn, strict=True):
        assert np.abs(picture - with_peft(catalog, name)).max() <= 2, name
    differences = [np.abs(picture - drawn[1]).max() for picture in drawn]
    assert sorted(differences)[1] > 10, "an adapter that changes nothing proves nothing"


@pytest.mark.parametrize("rows", ["aabb", "aab", "abba", "aaaabb", "aaaa", "a"])
@pytest.mark.parametrize("kind", ["linear", "pointwise", "convolution", "strided"])
def test_every_row_gets_its_own_product_whatever_its_neighbours_are(rows: str, kind: str) -> None:
    torch.manual_seed(0)
    layer: nn.Module = nn.Linear(6, 10)
    x, kernel = torch.randn(len(rows), 7, 6), ()
    if kind != "linear":
        side, stride = (1, 1) if kind == "pointwise" else (3, 2 if kind == "strided" else 1)
        layer = nn.Conv2d(6, 10, side, stride, padding=side // 2)
        x, kernel = torch.randn(len(rows), 6, 8, 8), (side, side)
    adapters = {
        name: LowRank(torch.randn(rank, 6, *kernel), torch.randn(10, rank))
        for name, rank in (("a", 2), ("b", 4))
    }
    with torch.no_grad():
        output = layer(x)
        found = add_low_rank(layer, x, [adapters[name] for name in rows], output)
        for index, name in enumerate(rows):
            pair = adapters[name]
            weight = (pair.up @ pair.down.flatten(1)).view_as(layer.weight)
            alone = copy.deepcopy(layer)
            alone.weight += weight
            torch.testing.assert_close(found[index], alone(x[index, None])[0], atol=1e-4, rtol=1e-4)


def test_an_adapter_takes_no_more_memory_than_its_file(catalog: Catalog) -> None:
    publish(catalog, "one", rank=4)
    entry = catalog.get("one")
    adapter = read_adapter(entry, tiny_pipeline())
    assert adapter.size <= 1.1 * (entry.folder / ADAPTER_FILE).stat().st_size


def test_a_file_without_alpha_is_scaled_by_one(catalog: Catalog) -> None:
    publish(catalog, "plain", rank=2, alpha=6.0)
    entry = catalog.get("plain")
    path = entry.folder / ADAPTER_FILE
    key = "mid_block.resnets.0.conv1"
    scaled = read_adapter(entry, tiny_pipeline()).unet[key].up
    save_file(load_file(path), path, metadata={"format": "pt"})
    assert torch.allclose(scaled, 3 * read_adapter(entry, tiny_pipeline()).unet[key].up)


def break_shape(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = next(key for key in state if "to_q.lora_A" in key)
    return state | {key: torch.zeros(2, 99)}


def break_pair(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = next(key for key in state if "to_q.lora_B" in key)
    return {name: value for name, value in state.items() if name != key}


def break_name(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("mid_block", "no_block"): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_shape, "is \\(2, 99\\)"),
        (break_pair, "has no lora_B"),
        (break_name, "no such linear layer"),
        (lambda state: {"odd.weight": torch.zeros(2)}, "one"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    catalog: Catalog, tmp_path: Path, change, message: str
) -> None:
    publish(catalog, "one", rank=2)
    entry = catalog.get("one")
    path = entry.folder / ADAPTER_FILE
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(InvalidModel, match=message) as caught:
        read_adapter(entry, tiny_pipeline())
    assert str(tmp_path) not in str(caught.value)
