"""Stage one of pretraining: an autoencoder whose latents a small U-Net can learn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.checkpoints import Checkpoint, averaged
from training.features import PerceptualFeatures, perceptual_distance
from training.pass_through import pass_thumbnails
from training.pictures import draw_crops, grid, normalise, to_pictures

Encode = Callable[[Tensor], DiagonalGaussianDistribution]
"""From pictures `[B, 3, H, W]` in [-1, 1] to the distribution of their latents."""
THUMBNAIL = 8
"""Pixels of a picture to one of the thumbnail that `thumbnail_weight` compares."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The `[autoencoder]` table of a recipe."""

    channels: tuple[int, ...] = (32, 32, 64, 128, 192)
    latent_channels: int = 24
    crop: int = 96
    batch_size: int = 16
    steps: int = 2600
    learning_rate: float = 1e-3
    perceptual_weight: float = 0.25
    perceptual_scale: float = 1.5
    """The features see crops enlarged by this: the network was trained on larger pictures."""
    thumbnail_weight: float = 1.0
    """Weight of the L1 distance between thumbnails, which holds the colours where the features,
    blind to them, would outvote the pixels."""
    kl_weight: float = 1e-3
    """Weight of the mean KL divergence of a latent element."""
    shrink_probability: float = 0.25
    """How often a step decodes the halved latents and expects the halved picture."""
    mask_probability: float = 0.3
    """How often a step decodes the first channels only, a quarter or a half or two thirds."""
    plain_steps: int = 0
    """Steps after `steps` that neither shrink nor mask, on a cosine from half the rate."""
    ema_decay: float = 0.999
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        factor = 2 ** len(self.channels)
        if self.crop % factor:
            raise ValueError(f"autoencoder.crop: {self.crop} is not a multiple of {factor}")
        if self.crop < 64:
            raise ValueError(f"autoencoder.crop: {self.crop} is less than the features need, 64")
        if self.latent_channels < 3:
            raise ValueError(f"autoencoder.latent_channels: {self.latent_channels} is less than 3")
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("autoencoder.steps and autoencoder.batch_size must be at least 1")


def build_autoencoder(config: AutoencoderConfig, resolution: int) -> AutoencoderKL:
    """A convolutional autoencoder, no attention; its `scaling_factor` is 1 (fold_statistics)."""
    blocks = len(config.channels)
    vae = AutoencoderKL(
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
    pass_thumbnails(vae)
    return vae


def reconstruction_loss(
    vae: AutoencoderKL,
    features: PerceptualFeatures,
    pictures: Tensor,
    config: AutoencoderConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """L1 + thumbnails' L1 + perceptual + KL on `[B, 3, H, W]` in [-1, 1], and its parts.

    With `shrink_probability` the latents are halved before decoding and compared with the halved
    picture, which makes them scale-equivariant and smooth (EQ-VAE, arXiv 2502.09509, eq. 6). With
    `mask_probability` only the first channels are decoded, which puts shapes and colours there and
    detail behind (DC-AE 1.5, arXiv 2508.00413, section 3.2).
    """
    posterior = vae.encode(pictures).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    latents = posterior.mean + posterior.std * noise
    target = pictures
    shrink, mask = torch.rand(2, generator=generator).tolist()
    if shrink < config.shrink_probability:
        latents = F.avg_pool2d(latents, 2)
        target = F.avg_pool2d(pictures, 2)
    if mask < config.mask_probability:
        shares = torch.tensor([1 / 4, 1 / 2, 2 / 3])
        share = shares[torch.randint(len(shares), (), generator=generator)]
        kept = torch.arange(config.latent_channels) < share * config.latent_channels
        latents = latents * kept[:, None, None]
    decoded = vae.decode(latents).sample
    found = compare(decoded, target, features, config.perceptual_scale)
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    loss = (
        found.l1
        + config.thumbnail_weight * found.thumbnails
        + config.perceptual_weight * found.perceptual
        + config.kl_weight * kl
    )
    return loss, found.figures() | {"kl": kl.item()}


@dataclass(frozen=True)
class Comparison:
    """How far decoded pictures are from what they should be."""

    l1: Tensor
    thumbnails: Tensor
    """L1 of the pictures shrunk by `THUMBNAIL`."""
    perceptual: Tensor
    seen: list[Tensor]
    """Features of the decoded pictures, and of the wanted ones."""
    wanted: list[Tensor]

    def figures(self) -> dict[str, float]:
        """The three distances, for curves."""
        parts = {"l1": self.l1, "thumbnails": self.thumbnails, "perceptual": self.perceptual}
        return {name: part.item() for name, part in parts.items()}


def compare(
    decoded: Tensor, target: Tensor, features: PerceptualFeatures, scale: float
) -> Comparison:
    """Of pictures `[B, 3, H, W]` in [-1, 1]; the features see them enlarged by `scale`."""

    def look(pictures: Tensor) -> list[Tensor]:
        seen: list[Tensor] = features(F.interpolate(pictures, scale_factor=scale, mode="bilinear"))
        return seen

    with torch.no_grad():
        wanted = look(target)
    seen = look(decoded)
    return Comparison(
        l1=(decoded - target).abs().mean(),
        thumbnails=F.avg_pool2d(decoded - target, THUMBNAIL).abs().mean(),
        perceptual=perceptual_distance(seen, wanted),
        seen=seen,
        wanted=wanted,
    )


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
    factor = two_cosines(config.steps, config.plain_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    total = config.steps + config.plain_steps
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
    plain = replace(config, shrink_probability=0, mask_probability=0)
    bar = tqdm(total=total, initial=step, desc="autoencoder", unit="step")
    while step < total:
        batch = draw_crops(pictures, config.batch_size, config.crop, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss, parts = reconstruction_loss(
                vae, features, batch, config if step < config.steps else plain, generator
            )
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
        if step % config.checkpoint_every == 0 or step == total:
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


def two_cosines(steps: int, more: int) -> Callable[[int], float]:
    """`warm_cosine` over `steps`, then one of half its height over `more`."""
    first, second = warm_cosine(steps), warm_cosine(max(1, more))
    return lambda step: first(step) if step < steps else 0.5 * second(step - steps)


@torch.no_grad()
def report_reconstructions(
    vae: AutoencoderKL,
    held_out: Tensor,
    writer: SummaryWriter,
    step: int,
    folder: Path,
    name: str = "autoencoder",
    encode: Encode | None = None,
) -> None:
    """Write PSNR, latent smoothness and a grid of originals over reconstructions.

    The latents are `vae`'s own, or what `encode` makes.
    """
    originals = normalise(held_out)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(originals).latent_dist if encode is None else encode(originals)
        latents = posterior.mean.float()
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
def fold_statistics(vae: AutoencoderKL, latents: Tensor, evenness: float = 1.0) -> None:
    """Give each channel of `latents` `[N, C, h, w]` mean 0 and a scale, inside the weights.

    z' = (z - mean) / std^evenness, over what makes the mean variance 1. Pipelines know one
    `scaling_factor` for all channels, so the shift and scale of each go into the 1x1 convolutions
    around the latents.
    """
    mean = latents.mean(dim=(0, 2, 3))
    deviation = latents.std(dim=(0, 2, 3))
    std = deviation**evenness
    std = std * (deviation / std).square().mean().sqrt()
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.bias[:channels] -= mean
    quant.bias[:channels] /= std
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
