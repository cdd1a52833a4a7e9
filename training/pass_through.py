"""How an untrained autoencoder starts: as a picture that is shrunk and enlarged again."""

import torch
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn


@torch.no_grad()
def pass_thumbnails(vae: AutoencoderKL) -> None:
    """Let `vae` start as the picture shrunk to latent size in its first three latents and back.

    Residual branches start at zero, resampling as means and repetition, and the first six channels
    of each stage carry the colours and their negatives: silu(x) - silu(-x) = x, so they come
    through the last nonlinearity. From random weights the colours are learned last.
    """
    colours = torch.eye(3)
    both = torch.cat([colours, -colours])
    pass_blocks(vae)
    carry(vae.encoder.conv_in, both)
    carry(vae.encoder.conv_out, both.T)
    carry(vae.quant_conv, torch.eye(2 * vae.config.latent_channels))
    carry(vae.post_quant_conv, torch.eye(vae.config.latent_channels))
    carry(vae.decoder.conv_in, both)
    carry(vae.decoder.conv_out, both.T)


@torch.no_grad()
def pass_blocks(part: nn.Module) -> None:
    """Let the blocks in `part` of an autoencoder hand on what they get: residual branches at zero,
    resampling as means and repetition, the first six channels where the width changes."""
    for module in part.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                carry(module.conv_shortcut, torch.eye(6))
        elif isinstance(module, Downsample2D):
            carry(module.conv, torch.eye(module.channels), mean=True)
        elif isinstance(module, Upsample2D):
            carry(module.conv, torch.eye(module.channels))


def carry(convolution: nn.Conv2d, weights: Tensor, mean: bool = False) -> None:
    """Let the first `[O, I]` outputs be `weights` times the first inputs, at their place.

    With `mean`, of a convolution of stride 2: times the mean of the four places it looks at first.
    """
    outputs, inputs = weights.shape
    nn.init.zeros_(convolution.weight[:outputs])
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias[:outputs])
    if mean:
        convolution.weight[:outputs, :inputs, :2, :2] = weights[:, :, None, None] / 4
    else:
        middle = convolution.kernel_size[0] // 2
        convolution.weight[:outputs, :inputs, middle, middle] = weights
