"""The decoder of a base that gives larger pictures: an AutoencoderKL with more stages.

It takes the same latents as the base's own `vae` and stands beside it, in the folder `upscaler`.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from models.errors import InvalidModel, first_line
from models.manifest import UPSCALER_FOLDER


def copy_upscaler(base: Path, target: Path) -> None:
    """The one in the folder of `base`, if any, for a pipeline in `target` with the same latents."""
    if (base / UPSCALER_FOLDER).is_dir():
        shutil.copytree(base / UPSCALER_FOLDER, target / UPSCALER_FOLDER)


def load_upscaler(base: Path, device: torch.device, dtype: torch.dtype) -> AutoencoderKL | None:
    """The one in the folder of `base`, ready to run; None where there is none.

    Raises InvalidModel.
    """
    folder = base / UPSCALER_FOLDER
    if not folder.is_dir():
        return None
    try:
        upscaler = AutoencoderKL.from_pretrained(folder, use_safetensors=True, torch_dtype=dtype)
    except Exception as error:  # a foreign file can make the library raise anything
        label = f"{base.name}/{UPSCALER_FOLDER}"
        raise InvalidModel(f"{label}: {first_line(error).replace(str(folder), label)}") from error
    return upscaler.to(device, memory_format=torch.channels_last).eval()
