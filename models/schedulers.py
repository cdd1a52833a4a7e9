"""The samplers one may ask for by name, and how each is made from a model's own noise schedule."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.errors import InvalidRequest

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


@dataclass(frozen=True)
class SchedulerSpec:
    """A diffusers scheduler class, the options that make the variant, and its usual label."""

    class_name: str
    label: str
    """What other tools call it, for the text inside a picture."""
    options: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int | None = None


SCHEDULERS: Mapping[str, SchedulerSpec] = {
    "ddim": SchedulerSpec("DDIMScheduler", "DDIM"),
    "ddpm": SchedulerSpec("DDPMScheduler", "DDPM"),
    "pndm": SchedulerSpec("PNDMScheduler", "PLMS", {"skip_prk_steps": True}),
    "lms": SchedulerSpec("LMSDiscreteScheduler", "LMS"),
    "euler": SchedulerSpec("EulerDiscreteScheduler", "Euler"),
    "euler_ancestral": SchedulerSpec("EulerAncestralDiscreteScheduler", "Euler a"),
    "heun": SchedulerSpec("HeunDiscreteScheduler", "Heun"),
    "dpmpp_2m": SchedulerSpec("DPMSolverMultistepScheduler", "DPM++ 2M"),
    "dpmpp_2m_karras": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M Karras", {"use_karras_sigmas": True}
    ),
    # The multistep solver's SDE form: diffusers' DPMSolverSDEScheduler needs torchsde.
    "dpmpp_sde": SchedulerSpec(
        "DPMSolverMultistepScheduler", "DPM++ 2M SDE", {"algorithm_type": "sde-dpmsolver++"}
    ),
    "unipc": SchedulerSpec("UniPCMultistepScheduler", "UniPC"),
    "lcm": SchedulerSpec("LCMScheduler", "LCM", max_steps=50),
    # Begins at pure noise, which matters where steps are few (Lin et al. 2023, arXiv 2305.08891).
    "ddim_trailing": SchedulerSpec(
        "DDIMScheduler", "DDIM trailing", {"timestep_spacing": "trailing"}
    ),
}


def check_scheduler(name: str, steps: int) -> None:
    """Raise InvalidRequest when there is no scheduler `name` or it cannot take `steps` steps."""
    if name not in SCHEDULERS:
        raise InvalidRequest(f"scheduler {name[:80]!r}: one of {', '.join(SCHEDULERS)}")
    max_steps = SCHEDULERS[name].max_steps
    if max_steps is not None and steps > max_steps:
        raise InvalidRequest(f"steps {steps}: the scheduler {name!r} takes at most {max_steps}")


def make_scheduler(name: str, config: Mapping[str, Any]) -> "SchedulerMixin":
    """A fresh scheduler `name` on the noise schedule of `config`, a pipeline's scheduler config."""
    spec = SCHEDULERS[name]
    scheduler_class = getattr(importlib.import_module("diffusers"), spec.class_name)
    scheduler: SchedulerMixin = scheduler_class.from_config(config, **spec.options)
    return scheduler
