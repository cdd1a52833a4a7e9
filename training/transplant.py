"""A base's U-Net moved onto the latents of another autoencoder, so that it need not start anew."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from training.autoencoder import encode_means
from training.config import ConfigError


def taken_over(
    folder: Path, vae: AutoencoderKL, pictures: Tensor
) -> tuple[CLIPTokenizer, CLIPTextModel, UNet2DConditionModel]:
    """Text side and U-Net of the pipeline in `folder`, moved onto the latents of `vae`.

    `pictures` are bytes `[N, 3, S, S]`. Raises ConfigError where there is no such pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise ConfigError(f"unet.start_from: {str(folder)!r} is no pipeline's folder")
    base = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    return base.tokenizer, base.text_encoder, transplant(base, vae, pictures)


def transplant(
    base: StableDiffusionPipeline, vae: AutoencoderKL, pictures: Tensor
) -> UNet2DConditionModel:
    """A copy of `base`'s U-Net that takes and gives the latents of `vae`.

    Both autoencoders encode `pictures`, bytes `[N, 3, S, S]`; the linear maps between their latents
    (least squares, place by place) go into the first and the last convolution. All else is kept.
    Raises ConfigError where the latents are not of one size.
    """
    old, new = encode_means(base.vae, pictures), encode_means(vae, pictures)
    if old.shape[-2:] != new.shape[-2:]:
        raise ConfigError(
            f"unet.start_from: its latents are {old.shape[-1]}x{old.shape[-2]} places,"
            f" this autoencoder's {new.shape[-1]}x{new.shape[-2]}"
        )
    channels = new.shape[1]
    unet = UNet2DConditionModel.from_config(
        base.unet.config, in_channels=channels, out_channels=channels
    )
    state = base.unet.state_dict()
    to_old, to_new = linear_map(new, old), linear_map(old, new)
    state["conv_in.weight"] = torch.einsum("oihw,ij->ojhw", state["conv_in.weight"], to_old)
    state["conv_out.weight"] = torch.einsum("ji,ichw->jchw", to_new, state["conv_out.weight"])
    state["conv_out.bias"] = to_new @ state["conv_out.bias"]
    unet.load_state_dict(state)
    return unet


def linear_map(source: Tensor, target: Tensor) -> Tensor:
    """The `[D, C]` that best maps latents `[N, C, h, w]` of mean 0 to `[N, D, h, w]`."""
    x, y = (latents.movedim(1, -1).flatten(0, -2) for latents in (source, target))
    weights: Tensor = torch.linalg.lstsq(x, y).solution.T
    return weights
