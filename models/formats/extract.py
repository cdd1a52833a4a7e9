"""A LoRA out of a full checkpoint: the truncated SVD of each layer's weight difference."""

from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.catalog import Catalog, CatalogEntry
from models.errors import ModelRefused
from models.formats.components import Components, check_shapes, read_components
from models.formats.exporting import States, base_folder
from models.formats.folder import open_weights, read_states
from models.formats.lora_file import LoraLayer, diffusers_state
from models.manifest import ADAPTER_FILE

ADAPTED = ("unet", "text_encoder")


@dataclass(frozen=True)
class Extraction:
    """How much of a checkpoint's change its LoRA holds."""

    layers: int
    smallest_rank: int
    largest_rank: int
    energy: float
    """Share of the squared weight change of the adapted layers that the LoRA holds."""
    left_out: float
    """Share of the whole squared change that no LoRA can hold: biases, norms, embeddings, VAE."""


def extract_lora(
    model: str,
    name: str,
    catalog: Catalog,
    base: str | None = None,
    energy: float = 0.99,
    rank: int | None = None,
    replace: bool = False,
) -> Extraction:
    """Publish what the checkpoint `model` changed in its base as the adapter `name`.

    Each layer gets the least rank whose singular values hold `energy` of the squared change (Eckart
    and Young 1936), or `rank` where that is given. Raises ModelRefused where the two do not have
    the same shapes or do not differ.
    """
    entry = catalog.get(model)
    if entry.manifest.kind == "adapter":
        raise ModelRefused(f"{model}: is an adapter already")
    base_name = base or entry.manifest.base
    if base_name is None:
        raise ModelRefused(f"{model}: its manifest names no base; say which model it came from")
    if rank is not None and rank < 1:
        raise ModelRefused(f"rank {rank}: must be at least 1")
    if not 0 < energy <= 1:
        raise ModelRefused(f"energy {energy}: must be above 0 and at most 1")
    base_entry = catalog.get(base_name)
    source = base_folder(base_entry, catalog)
    components = read_components(source)
    for part in ADAPTED:
        file = open_weights(entry.folder, part)
        check_shapes(part, file.shapes, components.part(part), f"{model}: {file.label}")
    after, before = read_states(entry.folder), read_states(source)

    layers: dict[str, dict[str, LoraLayer]] = {}
    changed = kept = 0.0
    for part in ADAPTED:
        layers[part] = {}
        for module in _adaptable(components, part):
            key = f"{module}.weight"
            difference = after[part][key].float() - before[part][key].float()
            if not difference.any():
                continue
            layer, held = low_rank(difference, energy, rank)
            layers[part][module] = layer
            changed += float(difference.square().sum())
            kept += held
    ranks = [layer.rank for of_part in layers.values() for layer in of_part.values()]
    if not ranks:
        raise ModelRefused(f"{model}: no layer of it differs from {base_name}")
    total = _squared_change(after, before)
    extraction = Extraction(
        len(ranks), min(ranks), max(ranks), kept / changed, max(0.0, 1 - changed / total)
    )
    _publish(layers, entry, base_entry, name, catalog, replace, extraction)
    return extraction


def low_rank(difference: Tensor, energy: float, rank: int | None = None) -> tuple[LoraLayer, float]:
    """The best LoRA layer for `difference` `[out, in]` or `[out, in, kh, kw]` in fp16.

    Also how much of its squared norm that holds.
    """
    u, s, vh = torch.linalg.svd(difference.flatten(1), full_matrices=False)
    squares = s.double().square().cumsum(0)
    if rank is None:
        rank = int((squares < energy * squares[-1]).sum()) + 1
    rank = min(rank, len(s))
    root = s[:rank].sqrt()  # evenly on both, so that neither leaves fp16's range
    down = (root[:, None] * vh[:rank]).reshape(rank, *difference.shape[1:])
    layer = LoraLayer(down.half(), (u[:, :rank] * root).half(), float(rank))
    return layer, float(squares[rank - 1])


def _adaptable(components: Components, part: str) -> list[str]:
    return [
        name
        for name, module in components.part(part).named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]


def _squared_change(after: States, before: States) -> float:
    return sum(
        float((value.float() - before[part][name].float()).square().sum())
        for part, state in after.items()
        for name, value in state.items()
        if name in before[part] and before[part][name].shape == value.shape
    )


def _publish(
    layers: dict[str, dict[str, LoraLayer]],
    entry: CatalogEntry,
    base: CatalogEntry,
    name: str,
    catalog: Catalog,
    replace: bool,
    extraction: Extraction,
) -> None:
    origin = {
        "model": entry.manifest.name,
        "layers": extraction.layers,
        "largest_rank": extraction.largest_rank,
        "energy": round(extraction.energy, 6),
        "left_out": round(extraction.left_out, 6),
    }
    manifest = entry.manifest.model_copy(
        update={
            "name": name,
            "kind": "adapter",
            "base": base.manifest.name,
            "training": entry.manifest.training | {"extracted": origin},
            "evaluation": {},
        }
    )
    with catalog.publish(manifest, replace) as folder:
        state, metadata = diffusers_state(layers)
        save_file(state, folder / ADAPTER_FILE, metadata)
