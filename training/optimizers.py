"""The optimizers that a run can name."""

import importlib.util
from collections.abc import Sequence
from typing import Literal

import torch

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


def _why_not_8_bit(parameters: Sequence[torch.nn.Parameter]) -> str | None:
    if importlib.util.find_spec("bitsandbytes") is None:
        return "the package bitsandbytes (pip install bitsandbytes)"
    if parameters[0].device.type != "cuda":
        return f"a CUDA device, not {parameters[0].device.type}"
    return None
