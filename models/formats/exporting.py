"""Gives a model out in the formats of other tools: diffusers, checkpoint, lora, kohya."""

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from safetensors.torch import save_file
from torch import Tensor

from models.catalog import Catalog, CatalogEntry
from models.errors import ModelNotFound, ModelRefused
from models.formats import Format
from models.formats.components import Components, read_components, read_json
from models.formats.folder import SCHEDULER_FILE, copy_frame, read_states, write_weights
from models.formats.ldm import to_ldm
from models.formats.lora_file import LoraLayers, diffusers_state, kohya_state, read_lora
from models.formats.metadata import header
from models.formats.tensor_file import open_tensors
from models.manifest import ADAPTER_FILE, PIPELINE_FILE, write_manifest

States = dict[str, dict[str, Tensor]]


def export_model(name: str, form: Format, output: Path, catalog: Catalog) -> None:
    """Write the model `name` to `output`: a folder for `diffusers`, else one safetensors file.

    An adapter becomes a whole pipeline (`diffusers`, `checkpoint`) merged with its base, in fp32;
    other weights keep their dtypes. Raises ModelNotFound, InvalidModel or ModelRefused; `output`
    is there whole or not at all.
    """
    entry = catalog.get(name)
    if output.exists():
        raise ModelRefused(f"output {str(output)!r}: exists already")
    if form in ("lora", "kohya") and entry.manifest.kind != "adapter":
        raise ModelRefused(
            f"{name}: is a whole model; `python -m models extract-lora` makes a LoRA of it first"
        )
    base = base_folder(entry, catalog)
    components = read_components(base)
    layers = None
    if entry.manifest.kind == "adapter":
        layers = read_layers(entry, components)
    writers: dict[Format, Callable[[Path], None]] = {
        "diffusers": lambda path: _write_folder(entry, base, layers, path),
        "checkpoint": lambda path: _write_checkpoint(entry, base, components, layers, path),
        "lora": lambda path: _write_lora(entry, base, components, layers, path, kohya=False),
        "kohya": lambda path: _write_lora(entry, base, components, layers, path, kohya=True),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{uuid4().hex}")
    try:
        writers[form](partial)
        partial.rename(output)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)


def base_folder(entry: CatalogEntry, catalog: Catalog) -> Path:
    """The folder of the pipeline that `entry` is, or that it adapts; raises ModelRefused."""
    if entry.manifest.kind != "adapter":
        return entry.folder
    base = entry.manifest.base or ""
    try:
        return catalog.get(base).folder
    except ModelNotFound as error:
        if (Path(base) / PIPELINE_FILE).is_file():
            return Path(base)
        message = f"{entry.manifest.name}: its base {base[:80]!r} is not in the catalog"
        raise ModelRefused(f"{message}; import it first") from error


def read_layers(entry: CatalogEntry, components: Components) -> LoraLayers:
    """The LoRA layers of the adapter `entry`."""
    file = open_tensors(entry.folder / ADAPTER_FILE, f"{entry.manifest.name}/{ADAPTER_FILE}")
    return read_lora(file, components.unet, components.text_encoder)


def merge(states: States, layers: LoraLayers) -> States:
    """W + (alpha / r) up @ down in fp32 for each adapted layer, all of its part in fp32 then."""
    merged = dict(states)
    for part, of_part in layers.items():
        if not of_part:
            continue
        state = {name: value.float() for name, value in states[part].items()}
        for name, layer in of_part.items():
            update = layer.up.float() @ layer.down.float().flatten(1)
            weight = state[f"{name}.weight"]
            weight += (update * (layer.alpha / layer.rank)).reshape(weight.shape)
        merged[part] = state
    return merged


def _whole_states(base: Path, layers: LoraLayers | None) -> States:
    states = read_states(base)
    return states if layers is None else merge(states, layers)


def _write_folder(entry: CatalogEntry, base: Path, layers: LoraLayers | None, path: Path) -> None:
    if layers is None:
        shutil.copytree(base, path)
        return
    path.mkdir()
    copy_frame(base, path)
    write_weights(_whole_states(base, layers), path)
    write_manifest(path, entry.manifest.model_copy(update={"kind": "checkpoint"}))


def _write_checkpoint(
    entry: CatalogEntry, base: Path, components: Components, layers: LoraLayers | None, path: Path
) -> None:
    tensors = to_ldm(_whole_states(base, layers), components)
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, path, header(entry.manifest, components, _prediction(base)))


def _write_lora(
    entry: CatalogEntry,
    base: Path,
    components: Components,
    layers: LoraLayers | None,
    path: Path,
    kohya: bool,
) -> None:
    assert layers is not None
    metadata = header(entry.manifest, components, _prediction(base), layers)
    if kohya:
        save_file(kohya_state(layers), path, metadata)
    else:
        state, adapter_metadata = diffusers_state(layers)
        save_file(state, path, metadata | adapter_metadata)


def _prediction(base: Path) -> str:
    config = read_json(base / "scheduler" / SCHEDULER_FILE, f"scheduler/{SCHEDULER_FILE}")
    return str(config.get("prediction_type", "epsilon"))
