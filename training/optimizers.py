"""The optimizers and the schedules of their rates that a run can name."""

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers.optimization import get_scheduler

from training.report import say

SMALL = 100_000_000
"""A U-Net of fewer parameters, as the embedded base's, takes the first of the rates."""
RATES = {"lora": (1e-3, 1e-4), "full": (1e-4, 2e-6), "embedding": (5e-3, 5e-4)}
"""Rates by method. For small bases: docs/subjects.md; for others, what is usual for Stable
Diffusion."""
OptimizerName = Literal["adamw", "adamw8bit", "prodigy", "adafactor"]


def usual_rate(method: str, optimizer: OptimizerName, unet: torch.nn.Module) -> float:
    """The learning rate to start with; Prodigy finds its own and wants 1."""
    if optimizer == "prodigy":
        return 1.0
    return RATES[method][sum(p.numel() for p in unet.parameters()) >= SMALL]


def make_optimizer(
    name: OptimizerName,
    parameters: Sequence[torch.nn.Parameter],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """The optimizer `name` over `parameters`.

    AdamW with 8-bit moments needs bitsandbytes and a CUDA device: without them it says so and takes
    fused AdamW. Prodigy (arXiv 2306.06101) multiplies its own estimate of the rate by
    `learning_rate`; Adafactor (arXiv 1804.04235) keeps the given rate.
    """
    if name == "prodigy":
        from prodigyopt import Prodigy

        return Prodigy(  # type: ignore[no-any-return]
            parameters,
            lr=learning_rate,
            weight_decay=weight_decay,
            use_bias_correction=True,
            safeguard_warmup=True,
        )
    if name == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(  # type: ignore[no-any-return]
            parameters,
            lr=learning_rate,
            weight_decay=weight_decay,
            scale_parameter=False,
            relative_step=False,
            warmup_init=False,
        )
    if name == "adamw8bit":
        missing = _why_not_8_bit(parameters)
        if missing is None:
            from bitsandbytes.optim import AdamW8bit

            return AdamW8bit(  # type: ignore[no-any-return]
                parameters, lr=learning_rate, weight_decay=weight_decay
            )
        say(f"warning: optimizer: adamw8bit needs {missing}; taking adamw")
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def make_schedule(
    name: str, optimizer: torch.optim.Optimizer, learning_rate: float, warmup: int, steps: int
) -> Any:
    """The schedule `name` of the rate over `steps`: torch's one_cycle, or diffusers' of that name.

    The momentum stays what it is, also in one cycle: not every optimizer here has one.
    """
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=learning_rate, total_steps=steps, cycle_momentum=False
        )
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)


def shares_of_rate(name: str, warmup: int, steps: int) -> list[float]:
    """What the schedule `name` makes of a rate of 1 at each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, shares = make_schedule(name, optimizer, 1.0, warmup, steps), []
    for _ in range(steps):
        shares.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return shares


def _why_not_8_bit(parameters: Sequence[torch.nn.Parameter]) -> str | None:
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes (pip install bitsandbytes)"
    if parameters[0].device.type != "cuda":
        return f"a CUDA device, not {parameters[0].device.type}"
    return None
