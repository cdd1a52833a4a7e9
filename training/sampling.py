"""Grids of samples of fixed seeds, drawn while a run goes on."""

import torch
from PIL import Image
from torch import Tensor

from training.pictures import grid, pixels
from training.preparation import Run

STEPS = 25
GUIDANCE_SCALE = 4.0


def draw_samples(run: Run) -> Tensor:
    """Bytes `[P, n, 3, H, W]`: for each of the run's prompts the same n seeds."""
    count = run.config.sample_images
    texts, accelerator = run.gathered.texts, run.step.accelerator
    rows = []
    with run.parked["vae"].back(), torch.no_grad(), accelerator.autocast():
        empty = texts.of(run.weights, torch.tensor([texts.rows[""]]))
        for prompt in run.prompts:
            embeddings = texts.of(run.weights, torch.tensor([texts.rows[prompt]]))
            pictures = run.pipeline(
                prompt_embeds=embeddings.repeat(count, 1, 1),
                negative_prompt_embeds=empty.repeat(count, 1, 1),
                height=run.resolution,
                width=run.resolution,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE_SCALE,
                generator=[torch.Generator().manual_seed(seed) for seed in range(count)],
            ).images
            rows.append(pixels(pictures))
    return torch.stack(rows)


def sheet(rows: Tensor) -> Image.Image:
    """Bytes `[P, n, 3, H, W]` as a grid of P rows."""
    pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in rows.flatten(0, 1)]
    return grid(pictures, rows.shape[1])
