"""The settings of one distillation, each explained, checked once."""

from dataclasses import dataclass

from models.schedulers import check_scheduler
from training.adapters import LoraTargets
from training.config import ConfigError, check_above_0, check_least, check_share

LEAST = {
    "points": 1,
    "teacher_steps": 1,
    "trajectories": 2,
    "held_out": 1,
    "rank": 1,
    "steps": 1,
    "batch_size": 1,
    "warmup": 0,
    "weight_decay": 0,
    "checkpoint_every": 0,
}


@dataclass(frozen=True)
class DistillConfig:
    """What `python -m training distill` reads from its TOML file and its options."""

    name: str
    """Name of the model to publish."""
    base: str = "dogbooth-base"
    """The teacher: a catalog name, a diffusers folder, a .safetensors file or a hub id."""
    prompts: tuple[str, ...] = ()
    """What the teacher draws; empty takes every caption of the base's breeds."""
    guidance_scale: float = 4.0
    """The teacher's; the student draws without guidance."""
    points: int = 5
    """Where on each trajectory the student learns, evenly spaced from pure noise on: each of its
    steps goes from one point to the next."""
    teacher_steps: int = 5
    """DDIM steps of the teacher from one point to the next. With 1 the student learns guidance only
    (Meng et al. 2022, arXiv 2210.03142), with more also to take longer steps (Salimans and Ho 2022,
    arXiv 2202.00512)."""
    trajectories: int = 2000
    """Pictures that the teacher draws."""
    held_out: int = 64
    """How many of them nothing is learned from."""
    default_steps: int | None = None
    """Steps that the published model takes where nothing is said; None takes `points`."""
    default_scheduler: str = "ddim_trailing"
    """ddim_trailing steps on the points."""
    rank: int = 32
    lora_targets: LoraTargets = "attention+convolutions"
    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: int = 50
    ema_decay: float = 0.995
    max_grad_norm: float = 1.0
    checkpoint_every: int = 200
    """Steps between two checkpoints to resume from; 0 writes one only when stopped."""
    device: str = "auto"
    seed: int = 0
    description: str = ""
    replace: bool = False
    """Take the place of a published model of that name."""

    def __post_init__(self) -> None:
        check_least(self, LEAST)
        check_scheduler(self.default_scheduler, self.drawing_steps)
        check_above_0(self, "learning_rate", "max_grad_norm")
        if self.guidance_scale < 1:
            raise ConfigError(f"guidance_scale: {self.guidance_scale} is below 1")
        check_share(self, "ema_decay")
        if self.held_out >= self.trajectories:
            raise ConfigError(
                f"held_out: {self.held_out} leaves none of {self.trajectories} trajectories"
            )

    @property
    def drawing_steps(self) -> int:
        """Steps of one picture by the student."""
        return self.points if self.default_steps is None else self.default_steps
