"""Distillation: a LoRA by which a base draws without guidance, in few steps, what it drew in many.

`python -m training distill --config training/recipes/few_steps.toml`
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from models.catalog import Catalog
from models.manifest import Manifest
from models.schedulers import make_scheduler
from training.adapters import low_rank_change, save_adapter
from training.caching import fingerprint, weights_of
from training.captioning import breed_captions
from training.checkpoints import Checkpoint, averaged
from training.config import ConfigError, plain
from training.distill_config import DistillConfig
from training.errors import Diverged, Stopped
from training.optimizers import make_schedule
from training.pictures import pixels
from training.publishing import check_names, manifest_of
from training.report import say
from training.sampling import STEPS, sheet
from training.stopping import stop_requests
from training.student import Student, prepare
from training.trajectories import NoiseLevels, Trajectories, draw_trajectories, noise_levels
from training.versions import library_versions

NOT_OF_THE_RUN = (
    *("name", "description", "replace", "checkpoint_every"),
    *("default_steps", "default_scheduler"),
)
"""Settings that change no weight."""
SHOWN, SEEDS = 6, 4
"""Rows and columns of the grids that are published, of the student and of its teacher."""


def distill(config: DistillConfig, catalog: Catalog, work: Path) -> Path:
    """Have `config.base` draw, train the LoRA on that, publish it; return its folder.

    What a killed run of the same settings left in `work` is gone on from, to the same weights.
    Raises ConfigError or ModelsError for what a user can mend, TrainingError for a run that cannot
    go on (Stopped after a signal).
    """
    check_names(config, catalog)
    groups = caption_groups(config, catalog)
    prompts = list(dict.fromkeys(text for group in groups for text in group))
    with stop_requests() as stop:
        student = prepare(config, catalog, prompts)
        device, accelerator = student.accelerator.device, student.accelerator
        pipeline, parameters = student.pipeline, student.parameters
        scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        levels = noise_levels(scheduler, config.points * config.teacher_steps, device)
        points = noise_levels(scheduler, config.points, device)
        folder = work / "runs" / config.name
        drawn = of_teacher(config, pipeline, prompts)
        trajectories = draw_trajectories(
            partial(student.teacher, config.guidance_scale),
            levels,
            config.teacher_steps,
            student.latent_shape,
            [[prompts.index(text) for text in group] for group in groups],
            config.trajectories,
            config.seed,
            folder / "trajectories" / drawn[:16],
        )
        held_out = trajectories.part(slice(config.held_out))
        training = trajectories.part(slice(config.held_out, None))

        optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        schedule = make_schedule(
            "cosine", optimizer, config.learning_rate, config.warmup, config.steps
        )
        optimizer, schedule = accelerator.prepare(optimizer, schedule)
        ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
        generator = torch.Generator().manual_seed(config.seed)
        settings = {k: str(v) for k, v in asdict(config).items() if k not in NOT_OF_THE_RUN}
        state = folder / f"distill-{fingerprint([settings, drawn])[:16]}.pt"
        scaler = {} if accelerator.scaler is None else {"scaler": accelerator.scaler}
        checkpoint = Checkpoint(
            state,
            generator,
            adapter=nn.ParameterList(parameters),
            ema=ema,
            optimizer=optimizer,
            schedule=schedule,
            **scaler,
        )
        step = stop.saved = checkpoint.resume()
        writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)
        bar = tqdm(total=config.steps, initial=step, desc=config.name, unit="step")
        running = 0.0
        stop.waits = True
        while step < config.steps and stop.signal is None:
            loss = batch_loss(student, training, points, config.batch_size, generator)
            value = loss.item()
            if not math.isfinite(value):
                raise Diverged(
                    f"the loss is {value} at step {step + 1}: lower learning_rate "
                    f"({config.learning_rate})"
                )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            ema.step(parameters)
            step += 1
            bar.update()
            running = value if running == 0 else 0.98 * running + 0.02 * value
            bar.set_postfix(loss=f"{running:.4f}", refresh=False)
            writer.add_scalar("loss", value, step)
            if config.checkpoint_every and step % config.checkpoint_every == 0:
                checkpoint.save(step)
                stop.saved = step
                with averaged(ema, parameters):
                    writer.add_scalar("missed", missed(student, held_out, points), step)
        bar.close()
        if stop.signal is not None:
            checkpoint.save(step)
            raise Stopped(stop.signal, step)
        stop.waits = False

        ema.copy_to(parameters)
        left = missed(student, held_out, points)
        writer.add_scalar("missed", left, step)
        writer.close()
        say(f"of the variance of {config.held_out} held-out pictures the student misses {left:.1%}")
        published = publish(config, catalog, student, groups, running, left)
    state.unlink(missing_ok=True)
    return published


def caption_groups(config: DistillConfig, catalog: Catalog) -> list[list[str]]:
    """What the teacher is told: own prompts as one group, or those of each breed of the base.

    Raises ConfigError where there is nothing to say.
    """
    if config.prompts:
        return [list(config.prompts)]
    base = manifest_of(config.base, catalog)
    groups = breed_captions([] if base is None else base.breeds)
    if not groups:
        raise ConfigError(f"prompts: needed, as the base {config.base!r} names no breed of dogs")
    return groups


def of_teacher(
    config: DistillConfig, pipeline: StableDiffusionPipeline, prompts: Sequence[str]
) -> str:
    """A digest of all that the trajectories depend on."""
    frozen = [p for p in pipeline.unet.parameters() if not p.requires_grad]
    settings = ("points", "teacher_steps", "guidance_scale", "trajectories", "seed")
    return fingerprint(
        [
            {key: getattr(config, key) for key in settings},
            str(pipeline.unet.dtype),
            dict(pipeline.scheduler.config),
            prompts,
            weights_of(nn.ParameterList(frozen), pipeline.text_encoder),
        ]
    )


def batch_loss(
    student: Student,
    trajectories: Trajectories,
    points: NoiseLevels,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of `count` single steps from states that the teacher went through."""
    device = points.timesteps.device
    rows = torch.randint(len(trajectories.states), (count,), generator=generator)
    index = torch.randint(len(points.timesteps), (count,), generator=generator)
    latents = trajectories.states[rows, index].to(device)
    landed = trajectories.states[rows, index + 1].to(device)
    index = index.to(device)
    timesteps = points.timesteps[index]
    velocity = points.velocity_between(latents, landed, index)
    predicted = student.predict(latents, timesteps, trajectories.texts[rows])
    return (predicted - student.target(velocity, latents, timesteps)).square().mean()


@torch.no_grad()
def missed(student: Student, trajectories: Trajectories, points: NoiseLevels) -> float:
    """Mean squared distance of the student's clean latents to the teacher's, over their variance.

    The student goes all the way from the same noise by itself.
    """
    latents = trajectories.states[:, 0].to(points.timesteps.device)
    for index, timestep in enumerate(points.timesteps):
        velocity = student.velocity(latents, timestep.expand(len(latents)), trajectories.texts)
        latents = points.step(latents, velocity, torch.full((len(latents),), index))
    wanted = trajectories.states[:, -1]
    return ((latents.cpu() - wanted).square().mean() / wanted.var()).item()


def draw(
    student: Student, prompts: Sequence[str], scheduler: str, steps: int, guidance_scale: float
) -> Tensor:
    """Bytes `[P, SEEDS, 3, H, W]` of each prompt by the same seeds."""
    pipeline, rows = student.pipeline, []
    own = pipeline.scheduler
    pipeline.scheduler = make_scheduler(scheduler, own.config)
    with torch.no_grad(), student.accelerator.autocast():
        for prompt in prompts:
            pictures = pipeline(
                [prompt] * SEEDS,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in range(SEEDS)],
            ).images
            rows.append(pixels(pictures))
    pipeline.scheduler = own
    return torch.stack(rows)


def publish(
    config: DistillConfig,
    catalog: Catalog,
    student: Student,
    groups: list[list[str]],
    loss: float,
    left: float,
) -> Path:
    """Publish the LoRA, with a grid of what it draws of `groups` and one of what its teacher drew.

    `loss` is that of the last steps, `left` what the student misses.
    """
    pipeline = student.pipeline
    base = manifest_of(config.base, catalog)
    inherited: dict[str, Any] = {}
    if base is not None:
        inherited = {"class_prompt": base.class_prompt, "breeds": base.breeds}
    changed, beneath = low_rank_change(pipeline.unet)
    manifest = Manifest(
        name=config.name,
        kind="adapter",
        base=config.base,
        description=config.description,
        resolution=student.latent_shape[1] * pipeline.vae_scale_factor,
        default_steps=config.drawing_steps,
        default_guidance_scale=1.0,
        default_scheduler=config.default_scheduler,
        created=dt.datetime.now(dt.UTC),
        training={
            "command": "distill",
            "config": plain(config),
            "photos": 0 if base is None else base.training.get("photos", 0),
            "final_loss": round(loss, 5),
            "missed": round(left, 5),
            "weight_change": float(f"{math.sqrt(changed / beneath):.4g}"),
            "versions": library_versions(),
        },
        **inherited,
    )
    shown = groups[0][:SHOWN] if config.prompts else [group[0] for group in groups][-SHOWN:]
    after = draw(student, shown, config.default_scheduler, config.drawing_steps, 1.0)
    pipeline.unet.disable_adapters()
    before = draw(student, shown, "ddim", STEPS, config.guidance_scale)
    pipeline.unet.enable_adapters()
    with catalog.publish(manifest, replace=config.replace) as folder:
        save_adapter(folder, pipeline.unet, None)
        sheet(after).save(folder / "preview.png")
        sheet(before).save(folder / "preview_before.png")
    return catalog.get(config.name).folder
