"""Stage three of pretraining: a text-conditioned latent U-Net, small pictures first."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from training.attention import choose_attention
from training.captioning import CaptionTable
from training.checkpoints import Checkpoint, averaged
from training.pictures import grid


@dataclass(frozen=True)
class StageConfig:
    """One `[[unet.stages]]` table: a resolution and how long to train on it."""

    resolution: int
    """Side of the pictures in pixels."""
    steps: int
    learning_rate: float = 4e-4
    final_rate: float = 0.1
    """The rate at the end of the stage's cosine, as a share of `learning_rate`."""


@dataclass(frozen=True)
class UNetConfig:
    """The `[unet]` table of a recipe."""

    start_from: Path | None = None
    """Folder of a base whose U-Net and text side go on from here (training/transplant.py); the
    recipe's `channels` and `[text]` are then its."""
    channels: tuple[int, ...] = (96, 192, 256)
    attention_at_top: bool = True
    """Attention at the latents' own size too: good at 8x8, at 16x16 it would halve the speed."""
    norm_groups: int = 8
    """Groups of the group norms; diffusers' own default is 32. Not tested by itself."""
    stages: tuple[StageConfig, ...] = (StageConfig(64, 4000), StageConfig(128, 2500))
    batch_size: int = 64
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    empty_captions: float = 0.1
    generic_captions: float = 0.15
    """Share of captions that say "a dog" and no breed: the prior that DreamBooth preserves."""
    box_share: float = 0.2
    """Share of the draws that show the whole dog, where the dataset has heads too."""
    frontal_bias: float = 6.0
    """A photo is drawn exp(bias * c) times as often within its breed, c being its correlation with
    its mirror image: faces from the front first, for a small base cannot learn every pose."""
    checkpoint_every: int = 250
    sample_prompts: tuple[str, ...] = ("a photo of a dog",)
    guidance_scale: float = 4.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("unet.stages: at least one stage is needed")
        if self.empty_captions + self.generic_captions >= 1:
            raise ValueError("unet.empty_captions + unet.generic_captions must stay below 1")


def build_unet(
    config: UNetConfig, latent_channels: int, size: int, text_width: int
) -> UNet2DConditionModel:
    """An untrained U-Net for latents of `size` x `size`."""
    below = len(config.channels) - 1
    top = "CrossAttn" if config.attention_at_top else ""
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=config.channels,
        down_block_types=(f"{top}DownBlock2D", *("CrossAttnDownBlock2D",) * below),
        up_block_types=(*("CrossAttnUpBlock2D",) * below, f"{top}UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=config.norm_groups,
        cross_attention_dim=text_width,
        attention_head_dim=4,  # in this class the number of heads
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, with velocity as the target (arXiv 2202.00512).

    Pictures begin at its last timestep, as pure noise does (Lin et al. 2023, arXiv 2305.08891).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


@dataclass(frozen=True)
class LatentSet:
    """Latents of one resolution: several crops and flips of each photo."""

    latents: Tensor
    """`[N, C, h, w]`, standard per channel."""
    rows: Tensor
    """`[N]`: the dataset row that each latent was cut from."""
    weights: Tensor
    """`[N]`: how often each is drawn."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` latents in fp32 and their rows."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return self.latents[chosen].float(), self.rows[chosen]


def velocity_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    scheduler: DDIMScheduler,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    token_ids: Tensor,
) -> Tensor:
    """Mean squared error of the velocity v = a_t * noise - s_t * latents, each latent `[B]`."""
    noisy = scheduler.add_noise(latents, noise, timesteps)
    embeddings = text_encoder(token_ids).last_hidden_state
    predicted = unet(noisy, timesteps, embeddings).sample
    target = scheduler.get_velocity(latents, noise, timesteps)
    losses: Tensor = (predicted.float() - target).square().mean(dim=(1, 2, 3))
    return losses


def train_unet(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
    sets: dict[int, tuple[LatentSet, LatentSet]],
    captions: CaptionTable,
    config: UNetConfig,
    seed: int,
    folder: Path,
) -> StableDiffusionPipeline:
    """Train U-Net and text encoder together through all stages; return the averaged pipeline.

    `sets` holds (training, held-out) latents by resolution. Resumes from `folder`/unet.pt.
    """
    torch.manual_seed(seed)
    unet.to(memory_format=torch.channels_last)
    choose_attention(unet, unet.device)
    text_encoder.set_attn_implementation("eager")
    scheduler = build_scheduler()
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    trained = [*unet.parameters(), *text_encoder.parameters()]
    ema = EMAModel(trained, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.AdamW(trained, lr=1.0, weight_decay=config.weight_decay, fused=True)
    generator = torch.Generator().manual_seed(seed)
    rate = stage_rates(config.stages)
    total = sum(stage.steps for stage in config.stages)
    checkpoint = Checkpoint(
        folder / "unet.pt",
        generator,
        unet=unet,
        text_encoder=text_encoder,
        ema=ema,
        optimizer=optimizer,
    )
    step = checkpoint.resume()

    writer = SummaryWriter(folder / "tensorboard" / "unet", purge_step=step)
    bar = tqdm(total=total, initial=step, desc="unet", unit="step")
    running = 0.0
    while step < total:
        stage = stage_at(config.stages, step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        training, held_out = sets[stage.resolution]
        latents, rows = training.draw(config.batch_size, generator)
        latents = latents.contiguous(memory_format=torch.channels_last)
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(
            scheduler.config.num_train_timesteps, (len(latents),), generator=generator
        )
        token_ids = captions.draw(rows, generator)
        with torch.autocast("cpu", torch.bfloat16):
            losses = velocity_loss(
                unet, text_encoder, scheduler, latents, noise, timesteps, token_ids
            )
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        ema.step(trained)
        step += 1
        bar.update()
        loss = losses.mean().item()
        running = loss if running == 0 else 0.98 * running + 0.02 * loss
        bar.set_postfix(px=stage.resolution, loss=f"{running:.4f}")
        writer.add_scalar("loss", loss, step)
        if step % config.checkpoint_every == 0 or step == total:
            checkpoint.save(step)
            with averaged(ema, trained):
                loss_outside = held_out_loss(pipeline, held_out, captions)
                writer.add_scalar(f"held_out_{stage.resolution}", loss_outside, step)
                side = latents.shape[-1] * pipeline.vae_scale_factor
                sample_grid(pipeline, config, side, folder / "samples", step)
    writer.close()
    ema.copy_to(trained)
    return pipeline


def stage_at(stages: tuple[StageConfig, ...], step: int) -> StageConfig:
    """The stage that `step` (from 0) belongs to."""
    for stage in stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return stages[-1]


def stage_rates(stages: tuple[StageConfig, ...], warmup: int = 100) -> Callable[[int], float]:
    """Learning rate at a step: in each stage a linear rise, then a cosine to its final share."""

    def rate(step: int) -> float:
        stage = stage_at(stages, step)
        inside = step
        for earlier in stages:
            if earlier is stage:
                break
            inside -= earlier.steps
        rise = min(1.0, (inside + 1) / warmup)
        fall = 0.5 * (1 + math.cos(math.pi * inside / stage.steps))
        return stage.learning_rate * rise * (stage.final_rate + (1 - stage.final_rate) * fall)

    return rate


@torch.no_grad()
def held_out_loss(
    pipeline: StableDiffusionPipeline, held_out: LatentSet, captions: CaptionTable, count: int = 256
) -> float:
    """Velocity loss on held-out latents with noise, timesteps and captions that never change."""
    generator = torch.Generator().manual_seed(0)
    latents = held_out.latents[:count].float()
    noise = torch.randn(latents.shape, generator=generator)
    steps = pipeline.scheduler.config.num_train_timesteps
    timesteps = torch.linspace(0, steps - 1, len(latents)).long()
    token_ids = captions.draw(held_out.rows[:count], generator)
    losses = []
    for part in torch.arange(len(latents)).split(64):
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(
                velocity_loss(
                    pipeline.unet,
                    pipeline.text_encoder,
                    pipeline.scheduler,
                    latents[part],
                    noise[part],
                    timesteps[part],
                    token_ids[part],
                )
            )
    return torch.cat(losses).mean().item()


def sample_grid(
    pipeline: StableDiffusionPipeline, config: UNetConfig, size: int, folder: Path, step: int
) -> None:
    """Draw every sample prompt twice, from noise that never changes, to `folder`."""
    prompts = [prompt for prompt in config.sample_prompts for _ in range(2)]
    pipeline.set_progress_bar_config(disable=True)
    with torch.autocast("cpu", torch.bfloat16):
        pictures = pipeline(
            prompts,
            height=size,
            width=size,
            num_inference_steps=25,
            guidance_scale=config.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
        ).images
    folder.mkdir(parents=True, exist_ok=True)
    grid(pictures, columns=8).save(folder / f"unet-{step:06d}.png")
