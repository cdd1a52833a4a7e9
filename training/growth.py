"""Grows an autoencoder by one stage: the same latents, pictures of twice the side."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.autoencoder import report_reconstructions, warm_cosine
from training.checkpoints import Checkpoint, averaged
from training.features import PerceptualFeatures, perceptual_distance
from training.pictures import normalise, random_crops


@dataclass(frozen=True)
class GrowthConfig:
    """The `[growth]` table of a recipe; 0 steps leave the autoencoder as it is."""

    steps: int = 0
    crop: int = 96
    batch_size: int = 16
    learning_rate: float = 5e-4
    perceptual_weight: float = 0.25
    ema_decay: float = 0.995
    checkpoint_every: int = 100


def grow(vae: AutoencoderKL) -> AutoencoderKL:
    """A copy of `vae` with one more stage at the picture's end, which at first only resamples.

    The copy decodes latents `[B, C, h, w]` to twice the side of before, and encodes a picture of
    twice the side to nearly the latents of the shrunk one.
    """
    channels = vae.config.block_out_channels
    grown = AutoencoderKL.from_config(
        vae.config,
        block_out_channels=(channels[0], *channels),
        down_block_types=("DownEncoderBlock2D",) * (len(channels) + 1),
        up_block_types=("UpDecoderBlock2D",) * (len(channels) + 1),
        sample_size=2 * vae.config.sample_size,
    )
    state = {}
    for key, value in vae.state_dict().items():
        parts = key.split(".")
        if parts[:2] == ["encoder", "down_blocks"]:
            parts[2] = str(int(parts[2]) + 1)
        state[".".join(parts)] = value
    grown.load_state_dict(state, strict=False)
    with torch.no_grad():
        for resnet in (*grown.encoder.down_blocks[0].resnets, *grown.decoder.up_blocks[-1].resnets):
            nn.init.zeros_(resnet.conv2.weight)
            nn.init.zeros_(resnet.conv2.bias)
        shrink = grown.encoder.down_blocks[0].downsamplers[0].conv
        enlarge = grown.decoder.up_blocks[-2].upsamplers[0].conv
        each = torch.arange(channels[0])
        for convolution in (shrink, enlarge):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)
        shrink.weight[each, each, :2, :2] = 0.25
        enlarge.weight[each, each, 1, 1] = 1.0
    return grown


def train_growth(
    vae: AutoencoderKL,
    pictures: Tensor,
    held_out: Tensor,
    config: GrowthConfig,
    seed: int,
    folder: Path,
) -> AutoencoderKL:
    """Grow `vae` and train on bytes `[N, 3, H, W]`; `vae` itself stays as it is.

    The decoder learns the picture from the latents that `vae` gives its shrunk half, the encoder
    learns those latents from the whole. Resumes from `folder`/growth.pt.
    """
    torch.manual_seed(seed)
    vae.requires_grad_(False).eval()
    grown = grow(vae).to(memory_format=torch.channels_last)
    features = PerceptualFeatures().to(memory_format=torch.channels_last)
    parameters = list(grown.parameters())
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(config.steps))
    generator = torch.Generator().manual_seed(seed)
    checkpoint = Checkpoint(
        folder / "growth.pt", generator, vae=grown, ema=ema, optimizer=optimizer, schedule=schedule
    )
    step = checkpoint.resume()

    writer = SummaryWriter(folder / "tensorboard" / "growth", purge_step=step)
    bar = tqdm(total=config.steps, initial=step, desc="growth", unit="step")
    while step < config.steps:
        chosen = torch.randint(len(pictures), (config.batch_size,), generator=generator)
        batch = normalise(random_crops(pictures[chosen], config.crop, generator))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = vae.encode(F.avg_pool2d(batch, 2)).latent_dist
                noise = torch.randn(wanted.mean.shape, generator=generator)
                latents = wanted.mean + wanted.std * noise
                wanted_features = features(batch)
            encoded = grown.encode(batch).latent_dist
            decoded = grown.decode(latents).sample
            l1 = (decoded - batch).abs().mean()
            perceptual = perceptual_distance(features(decoded), wanted_features)
            distance = (encoded.mean - wanted.mean).abs().mean()
            distance = distance + 0.1 * (encoded.logvar - wanted.logvar).abs().mean()
            loss = l1 + config.perceptual_weight * perceptual + distance
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        ema.step(parameters)
        step += 1
        bar.update()
        bar.set_postfix(l1=f"{l1.item():.3f}", latents=f"{distance.item():.3f}")
        for name, value in (("l1", l1), ("perceptual", perceptual), ("latents", distance)):
            writer.add_scalar(name, value.item(), step)
        if step % config.checkpoint_every == 0 or step == config.steps:
            checkpoint.save(step)
            with averaged(ema, parameters):
                report_reconstructions(grown, held_out[:8], writer, step, folder, "growth")
    writer.close()
    ema.copy_to(parameters)
    return grown
