"""Gradients of a large batch at once and in parts, which are the same, and what each costs."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from models.catalog import Catalog
from training.dreambooth_config import DreamBoothConfig, Precision
from training.estimate import step_peak
from training.preparation import prepare

PRECISIONS: dict[str, Precision] = {"fp32": "no", "bf16": "bf16"}


def compare_parts(config: DreamBoothConfig, catalog: Catalog, work: Path) -> list[dict[str, Any]]:
    """One step's gradients, all rows at once and in parts: how far apart, and what each costs.

    The loss is a sum over rows, each with noise and a timestep of its own, over their number; the
    norms of the U-Net look at one row at a time. So the parts' gradients add up to the whole's, and
    what is left between them is rounding: `apart` is |g - g_whole| / |g_whole|.
    """
    rows = []
    for name, precision in PRECISIONS.items():
        AcceleratorState._reset_state(True)  # else it keeps the precision that it had first
        run = prepare(replace(config, mixed_precision=precision), catalog, work)
        batch = run.gathered.draws(torch.Generator().manual_seed(config.seed))
        run.step.gradients(batch, config.rows)  # the first time is slower
        whole: Tensor | None = None
        for size in sorted({config.rows, config.rows // 2, config.rows // 4, 1}, reverse=True):
            run.optimizer.zero_grad(set_to_none=True)
            memory = step_peak(run.step, batch, size)
            started = time.perf_counter()
            loss = run.step.gradients(batch, size).item()
            seconds = time.perf_counter() - started
            gradients = [p.grad.flatten() for p in run.weights.parameters if p.grad is not None]
            found = torch.cat(gradients)
            whole = found if whole is None else whole
            rows.append(
                {
                    "precision": name,
                    "rows_at_once": size,
                    "parts": -(-config.rows // size),
                    "loss": loss,
                    "apart": float((found - whole).norm() / whole.norm()),
                    "memory_bytes": memory,
                    "seconds": seconds,
                }
            )
    AcceleratorState._reset_state(True)
    return rows
