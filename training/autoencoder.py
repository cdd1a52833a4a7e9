"""Stage one of pretraining: an autoencoder whose latents a small U-Net can learn."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.checkpoints import Checkpoint, averaged
from training.features import PerceptualFeatures, perceptual_distance
from training.pictures import grid, normalise, random_crops, to_pictures

ANCHOR_SCALE = 2.0
"""Pixels in [-1, 1] have a standard deviation near 0.5; the KL wants latents near 1."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The `[autoencoder]` table of a recipe."""

    channels: tuple[int, ...] = (24, 48, 96, 128)
    latent_channels: int = 6
    """The first three are held to the shrunk picture, the others are free (see anchor_weight)."""
    crop: int = 96
    batch_size: int = 16
    steps: int = 1500
    learning_rate: float = 1e-3
    perceptual_weight: float = 0.25
    kl_weight: float = 1e-3
    """Weight of the mean KL divergence of a latent element."""
    anchor_weight: float = 0.5
    """Weight of the L1 distance between the first three channels and the picture at latent size.

    Such latents are smooth, carry the colours from the first steps on and can be looked at.
    """
    shrink_probability: float = 0.25
    """How often a step decodes the halved latents and expects the halved picture."""
    ema_decay: float = 0.999
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.crop % 16:
            raise ValueError(f"autoencoder.crop: {self.crop} is not a multiple of 16")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("autoencoder.steps and autoencoder.batch_size must be at least 1")


def build_autoencoder(config: AutoencoderConfig, resolution: int) -> AutoencoderKL:
    """A convolutional autoencoder, no attention; its `scaling_factor` is 1 (fold_statistics)."""
    blocks = len(config.channels)
    return AutoencoderKL(
        block_out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=resolution,
        scaling_factor=1.0,
        force_upcast=False,
    )


def reconstruction_loss(
    vae: AutoencoderKL,
    features: PerceptualFeatures,
    pictures: Tensor,
    config: AutoencoderConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """L1 + perceptual + KL + anchor on `[B, 3, H, W]` in [-1, 1].

    With `shrink_probability` the latents are halved before decoding and compared with the halved
    picture, which makes them scale-equivariant and smooth (EQ-VAE, arXiv 2502.09509, eq. 6).
    """
    posterior = vae.encode(pictures).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    latents = posterior.mean + posterior.std * noise
    target = pictures
    if torch.rand((), generator=generator) < config.shrink_probability:
        latents = F.avg_pool2d(latents, 2)
        target = F.avg_pool2d(pictures, 2)
    decoded = vae.decode(latents).sample
    with torch.no_grad():
        wanted = features(target)
    l1 = (decoded - target).abs().mean()
    perceptual = perceptual_distance(features(decoded), wanted)
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    thumbnail = ANCHOR_SCALE * F.adaptive_avg_pool2d(pictures, posterior.mean.shape[-2:])
    anchor = (posterior.mean[:, :3] - thumbnail).abs().mean()
    loss = (
        l1
        + config.perceptual_weight * perceptual
        + config.kl_weight * kl
        + config.anchor_weight * anchor
    )
    parts = {"l1": l1, "perceptual": perceptual, "kl": kl, "anchor": anchor}
    return loss, {name: part.item() for name, part in parts.items()}


def train_autoencoder(
    pictures: Tensor, held_out: Tensor, config: AutoencoderConfig, seed: int, folder: Path
) -> AutoencoderKL:
    """Train on bytes `[N, 3, H, W]`, from `folder`/autoencoder.pt on; return the averaged model.

    Curves and reconstructions of `held_out` go to `folder`/tensorboard and `folder`/samples.
    """
    torch.manual_seed(seed)
    resolution = pictures.shape[-1]
    vae = build_autoencoder(config, resolution).to(memory_format=torch.channels_last)
    features = PerceptualFeatures().to(memory_format=torch.channels_last)
    parameters = list(vae.parameters())
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(config.steps))
    generator = torch.Generator().manual_seed(seed)
    checkpoint = Checkpoint(
        folder / "autoencoder.pt",
        generator,
        vae=vae,
        ema=ema,
        optimizer=optimizer,
        schedule=schedule,
    )
    step = checkpoint.resume()

    writer = SummaryWriter(folder / "tensorboard" / "autoencoder", purge_step=step)
    bar = tqdm(total=config.steps, initial=step, desc="autoencoder", unit="step")
    while step < config.steps:
        chosen = torch.randint(len(pictures), (config.batch_size,), generator=generator)
        batch = normalise(random_crops(pictures[chosen], config.crop, generator))
        with torch.autocast("cpu", torch.bfloat16):
            loss, parts = reconstruction_loss(vae, features, batch, config, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        ema.step(parameters)
        step += 1
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        for name, value in parts.items():
            writer.add_scalar(name, value, step)
        if step % config.checkpoint_every == 0 or step == config.steps:
            checkpoint.save(step)
            with averaged(ema, parameters):
                report_reconstructions(vae, held_out[:8], writer, step, folder)
    writer.close()
    ema.copy_to(parameters)
    return vae


def warm_cosine(steps: int, warmup: int = 50) -> Callable[[int], float]:
    """The rate's factor at a step: linear over `warmup` steps, then a cosine down to zero."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup)
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    return factor


@torch.no_grad()
def report_reconstructions(
    vae: AutoencoderKL,
    held_out: Tensor,
    writer: SummaryWriter,
    step: int,
    folder: Path,
    name: str = "autoencoder",
) -> None:
    """Write PSNR, latent smoothness and a grid of originals over reconstructions."""
    originals = normalise(held_out)
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(originals).latent_dist.mean.float()
        decoded = vae.decode(latents).sample.float().clamp(-1, 1)
    mse = ((decoded - originals) / 2).square().mean(dim=(1, 2, 3))
    writer.add_scalar("psnr_db", (-10 * mse.log10()).mean().item(), step)
    writer.add_scalar("neighbour_correlation", neighbour_correlation(latents), step)
    samples = folder / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    sheet = grid(to_pictures(torch.cat([originals, decoded])), columns=len(held_out))
    sheet.save(samples / f"{name}-{step:06d}.png")


def neighbour_correlation(latents: Tensor) -> float:
    """Mean over channels of the correlation of each latent `[B, C, h, w]` with its neighbours.

    Near 1 for smooth pictures, near 0 for noise: how easy the latents are to learn.
    """
    centred = latents - latents.mean(dim=(0, 2, 3), keepdim=True)
    variance = centred.square().mean(dim=(0, 2, 3))
    right = (centred[..., :, 1:] * centred[..., :, :-1]).mean(dim=(0, 2, 3)) / variance
    below = (centred[..., 1:, :] * centred[..., :-1, :]).mean(dim=(0, 2, 3)) / variance
    return torch.stack([right, below]).mean().item()


@torch.no_grad()
def encode_means(vae: AutoencoderKL, pictures: Tensor, batch_size: int = 64) -> Tensor:
    """Posterior means `[N, C, H/8, W/8]` of bytes `[N, 3, H, W]`."""
    parts = []
    for batch in pictures.split(batch_size):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(vae.encode(normalise(batch)).latent_dist.mean.float())
    return torch.cat(parts)


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, latents: Tensor) -> None:
    """Make `latents` `[N, C, h, w]` standard per channel, inside the weights.

    Pipelines know one `scaling_factor` for all channels, so the shift and scale of each go into
    the 1x1 convolutions around the latents: z' = (z - mean) / std.
    """
    mean = latents.mean(dim=(0, 2, 3))
    std = latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.bias[:channels] -= mean
    quant.bias[:channels] /= std
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
