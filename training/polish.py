"""Sharpens a decoder whose latents are settled: pixels, features and an adversary on features."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.autoencoder import Encode, compare, report_reconstructions, warm_cosine
from training.checkpoints import Checkpoint, averaged
from training.features import PerceptualFeatures
from training.pictures import draw_crops


@dataclass(frozen=True)
class PolishConfig:
    """The `[polish]` table of a recipe; 0 steps leave the decoder as it is."""

    steps: int = 0
    crop: int = 96
    batch_size: int = 16
    learning_rate: float = 5e-4
    perceptual_weight: float = 0.25
    perceptual_scale: float = 1.5
    adversarial_share: float = 0.3
    """Length of the adversary's gradient in the picture, as a share of all other losses'."""
    adversarial_from: int = 100
    """The step from which the decoder hears the adversary, which learns before that."""
    ema_decay: float = 0.995
    checkpoint_every: int = 100


class Adversary(nn.Module):
    """Tells real from decoded pictures, place by place, by frozen features of several depths.

    A projected discriminator (Sauer et al. 2021, arXiv 2111.01007) without its random mixing.
    """

    def __init__(self, features: list[Tensor]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(layer.shape[1], 64, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 1))
            for layer in features
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """A score for each place of each layer; unit vectors come in, so they are lengthened."""
        return [
            head(layer * layer.shape[1] ** 0.5)
            for head, layer in zip(self.heads, features, strict=True)
        ]


def hinge(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """The adversary's loss (Lim and Ye 2017, arXiv 1705.02894), a mean over layers."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def encoder_of(vae: AutoencoderKL, source: AutoencoderKL | None) -> Encode:
    """What makes latents of pictures `[B, 3, H, W]` for `vae` to decode: its encoder or `source`'s,
    the latter of pictures shrunk by as much as `vae` has more stages."""
    if source is None:
        return lambda pictures: vae.encode(pictures).latent_dist
    source.requires_grad_(False).to(memory_format=torch.channels_last)
    stages = [len(one.config.block_out_channels) for one in (vae, source)]
    factor = 2 ** (stages[0] - stages[1])
    return lambda pictures: source.encode(F.avg_pool2d(pictures, factor)).latent_dist


def polish(
    vae: AutoencoderKL,
    pictures: Tensor,
    held_out: Tensor,
    config: PolishConfig,
    seed: int,
    folder: Path,
    source: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train `vae`'s decoder on bytes `[N, 3, H, W]`, from `folder`/polish.pt on; give the average.

    The encoder, and so every latent, stays as it is. With `source`, the latents are its own, of the
    pictures shrunk by as much as `vae` has more stages.
    """
    torch.manual_seed(seed)
    encode = encoder_of(vae, source)
    vae.requires_grad_(False).to(memory_format=torch.channels_last)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    features = PerceptualFeatures().to(memory_format=torch.channels_last)
    parameters = list(decoder.parameters())
    adversary = Adversary(features(torch.zeros(1, 3, 128, 128)))
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, fused=True)
    opponent = torch.optim.AdamW(adversary.parameters(), lr=1e-3, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(config.steps))
    generator = torch.Generator().manual_seed(seed)
    checkpoint = Checkpoint(
        folder / "polish.pt",
        generator,
        decoder=decoder,
        adversary=adversary,
        ema=ema,
        optimizer=optimizer,
        opponent=opponent,
        schedule=schedule,
    )
    step = checkpoint.resume()

    writer = SummaryWriter(folder / "tensorboard" / "polish", purge_step=step)
    bar = tqdm(total=config.steps, initial=step, desc="polish", unit="step")
    while step < config.steps:
        batch = draw_crops(pictures, config.batch_size, config.crop, generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = encode(batch).sample(generator)
            decoded = vae.decode(latents).sample
            found = compare(decoded, batch, features, config.perceptual_scale)
            likeness = found.l1 + found.thumbnails + config.perceptual_weight * found.perceptual
            doubt = -torch.stack([score.mean() for score in adversary(found.seen)]).mean()
        gradient = torch.autograd.grad(likeness, decoded, retain_graph=True)[0]
        if step >= config.adversarial_from:
            pull = torch.autograd.grad(doubt, found.seen, retain_graph=True)
            pull = torch.autograd.grad(found.seen, decoded, pull, retain_graph=True)[0]
            gradient = gradient + config.adversarial_share * pull * gradient.norm() / pull.norm()
        optimizer.zero_grad(set_to_none=True)
        decoded.backward(gradient)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        ema.step(parameters)
        with torch.autocast("cpu", torch.bfloat16):
            told = hinge(adversary(found.wanted), adversary([s.detach() for s in found.seen]))
        opponent.zero_grad(set_to_none=True)
        told.backward()
        opponent.step()
        step += 1
        bar.update()
        figures = found.figures() | {"hinge": told.item()}
        bar.set_postfix(l1=f"{figures['l1']:.3f}", hinge=f"{figures['hinge']:.2f}")
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        if step % config.checkpoint_every == 0 or step == config.steps:
            checkpoint.save(step)
            with averaged(ema, parameters):
                report_reconstructions(vae, held_out[:8], writer, step, folder, "polish", encode)
    writer.close()
    ema.copy_to(parameters)
    return vae
