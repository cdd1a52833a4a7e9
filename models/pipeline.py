"""Loads a diffusers Stable Diffusion pipeline with the right device, dtype and memory format."""

import json
import logging
import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from models.catalog import Catalog, CatalogEntry
from models.errors import InvalidModel, ModelNotFound, first_line
from models.manifest import ADAPTER_FILE, PIPELINE_FILE

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
ADAPTER_NAME = "adapter"
"""What a catalog adapter is called inside its pipeline; PEFT allows no dots in these names."""

HUB_ID = r"[\w.-]+/[\w.-]+"


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes cuda, else mps, else cpu."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The dtype called `name` (fp32, fp16, bf16).

    `auto` takes fp16 on cuda and mps, bf16 on a CPU that computes it in hardware, else fp32.
    """
    if name != "auto":
        if name not in DTYPES:
            raise ValueError(f"dtype {name!r}: one of auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type != "cpu":
        return torch.float16
    capabilities = torch.cpu.get_capabilities()
    in_hardware = any(capabilities.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if in_hardware else torch.float32


def in_bf16_on_cpu(module: torch.nn.Module) -> bool:
    """Whether `module` computes where oneDNN's bf16 kernels do."""
    parameter = next(module.parameters())
    return (parameter.device.type, parameter.dtype) == ("cpu", torch.bfloat16)


def load_pipeline(
    source: str,
    catalog: Catalog,
    device: torch.device,
    dtype: torch.dtype,
    safety_checker: bool = False,
) -> StableDiffusionPipeline:
    """The pipeline of `source`, ready to run; with `safety_checker`, with the one it ships, if any.

    `source` is a catalog name (an adapter comes as its base with the adapter active), a diffusers
    folder, one .safetensors file, or a hub id. Weights are read from safetensors only.
    Raises ModelNotFound or InvalidModel.
    """
    entry = _in_catalog(source, catalog)
    if entry is not None and entry.manifest.kind == "adapter":
        if entry.manifest.base is None:
            raise InvalidModel(f"{source}: an adapter's manifest names its base")
        try:
            pipeline = load_pipeline(entry.manifest.base, catalog, device, dtype, safety_checker)
        except ModelNotFound as error:
            raise InvalidModel(f"{source}: its base is missing: {error}") from error
        _load_adapter(pipeline, entry)
    else:
        pipeline = _load_weights(
            source if entry is None else str(entry.folder), dtype, safety_checker
        )
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    return pipeline


def _in_catalog(source: str, catalog: Catalog) -> CatalogEntry | None:
    """The entry called `source`; None where `source` is a path or a hub id instead."""
    try:
        return catalog.get(source)
    except ModelNotFound:
        if Path(source).exists() or re.fullmatch(HUB_ID, source):
            return None
        raise


def _load_weights(source: str, dtype: torch.dtype, safety_checker: bool) -> StableDiffusionPipeline:
    path = Path(source)
    options: dict[str, object] = {"dtype": dtype}
    if not safety_checker:
        options |= {"safety_checker": None, "requires_safety_checker": False}
    if path.is_dir():
        _check_pipeline_class(path)
    elif path.exists() and path.suffix != ".safetensors":
        raise InvalidModel(f"{path.name}: only .safetensors files and diffusers folders are read")
    try:
        if path.is_file():
            return StableDiffusionPipeline.from_single_file(source, **options)
        return StableDiffusionPipeline.from_pretrained(source, use_safetensors=True, **options)
    except Exception as error:  # a foreign file can make the libraries raise anything
        raise _invalid(path, error) from error


def _check_pipeline_class(folder: Path) -> None:
    try:
        class_name = json.loads((folder / PIPELINE_FILE).read_bytes())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{folder.name}: {PIPELINE_FILE} is not a pipeline's") from error
    if class_name != StableDiffusionPipeline.__name__:
        raise InvalidModel(f"{folder.name}: the pipeline class {class_name!r} is not supported")


def _load_adapter(pipeline: StableDiffusionPipeline, entry: CatalogEntry) -> None:
    """Add the adapter's LoRA layers to `pipeline` and make them active."""
    if pipeline.get_active_adapters():
        raise InvalidModel(f"{entry.manifest.name}: its base is itself an adapter")
    try:
        pipeline.load_lora_weights(
            entry.folder, weight_name=ADAPTER_FILE, adapter_name=ADAPTER_NAME, use_safetensors=True
        )
    except Exception as error:  # a foreign file can make the libraries raise anything
        raise _invalid(entry.folder, error) from error
    if not pipeline.get_active_adapters():
        raise InvalidModel(f"{entry.manifest.name}: {ADAPTER_FILE} fits no layer of its base")


def _invalid(path: Path, error: Exception) -> InvalidModel:
    """One line that says what is wrong with `path`, with no absolute path in it."""
    logger.warning("%s cannot be loaded", path, exc_info=error)
    reason = first_line(error).replace(str(path), path.name)
    if not path.exists():
        reason = f"not on this machine, and the hub did not give it ({reason})"
    return InvalidModel(f"{path.name}: {reason}")
