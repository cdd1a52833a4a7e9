"""Small rough pictures of latents on their way: a linear projection, or an AutoencoderTiny."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from models.errors import InvalidModel
from models.residents import Base
from models.sample import tensor_picture


class Previewer:
    """Shows latents; belongs to the engine's thread.

    `decoder` is the folder of an AutoencoderTiny (such as TAESD for Stable Diffusion v1), used for
    the bases whose latents have as many channels as it takes.
    """

    def __init__(self, decoder: Path | None, device: torch.device, dtype: torch.dtype) -> None:
        self._decoder: AutoencoderTiny | None = None
        if decoder is not None:
            self._decoder = load_tiny_decoder(decoder).to(device, dtype)

    def picture(self, base: Base, latents: Tensor) -> Image.Image:
        """A picture of `latents` `[1, C, h, w]`, as large as the finished one."""
        factor = base.pipeline.vae_scale_factor
        height, width = (factor * side for side in latents.shape[-2:])
        if self._decoder is not None and self._decoder.config.latent_channels == latents.shape[1]:
            pixels = self._decoder.decode(latents.to(self._decoder.dtype)).sample
        else:
            if base.preview_projection is None:
                base.preview_projection = fit_projection(base.pipeline.vae)
            pixels = project(latents, base.preview_projection)
        return tensor_picture(pixels[0]).resize((width, height), Image.Resampling.BICUBIC)


def load_tiny_decoder(folder: Path) -> AutoencoderTiny:
    """The decoder in `folder`: a diffusers model, or TAESD's own `taesd_decoder.safetensors`.

    Raises InvalidModel where there is neither.
    """
    original = folder / "taesd_decoder.safetensors"
    if (folder / "config.json").is_file():
        return AutoencoderTiny.from_pretrained(folder, use_safetensors=True).eval()
    if not original.is_file():
        raise InvalidModel(f"preview_decoder {folder.name}: holds no AutoencoderTiny")
    decoder = AutoencoderTiny()
    state = {}
    for key, value in load_file(original).items():
        number, _, rest = key.partition(".")  # its layer 0, the clamp, is no layer in diffusers
        state[f"{int(number) - 1}.{rest}"] = value
    decoder.decoder.layers.load_state_dict(state)
    return decoder.eval()


def project(latents: Tensor, projection: Tensor) -> Tensor:
    """`[B, C, h, w]` to `[B, 3, h, w]` in [-1, 1] by `projection` `[C + 1, 3]`, bias last."""
    weight, bias = projection[:-1].T[:, :, None, None], projection[-1]
    return F.conv2d(latents.float(), weight, bias)


def fit_projection(vae: AutoencoderKL, count: int = 16, side: int = 8) -> Tensor:
    """The `[C + 1, 3]` that best gives `vae`'s shrunk pictures from its latents, least squares.

    Fitted on decoded random latents, smooth and rough ones, so that it needs no photos.
    """
    generator = torch.Generator().manual_seed(0)
    channels = vae.config.latent_channels
    rough = torch.randn(count, channels, side, side, generator=generator)
    smooth = torch.randn(count, channels, 2, 2, generator=generator)
    latents = 0.3 * rough + F.interpolate(smooth, size=side, mode="bicubic")
    scaled = (latents / vae.config.scaling_factor).to(vae.device, vae.dtype)
    pictures = torch.cat([vae.decode(part).sample.float() for part in scaled.split(4)])
    shrunk = F.adaptive_avg_pool2d(pictures, side).cpu()
    inputs = torch.cat([latents, torch.ones(count, 1, side, side)], dim=1)
    flat = inputs.permute(0, 2, 3, 1).reshape(-1, channels + 1)
    wanted = shrunk.permute(0, 2, 3, 1).reshape(-1, 3)
    solution: Tensor = torch.linalg.lstsq(flat, wanted).solution
    return solution.to(vae.device)
