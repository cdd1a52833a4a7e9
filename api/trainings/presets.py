"""What a preset and a method mean for the trainer, as long as single settings say nothing else."""

from typing import Any, Literal

Preset = Literal["quick", "balanced", "thorough"]
Method = Literal["lora", "full", "embedding"]

PRESETS: dict[Preset, dict[str, Any]] = {
    "quick": {
        "steps": 120,
        "class_images": 16,
        "sample_every": 40,
        "sample_images": 2,
        "validate_every": 20,
        "checkpoint_every": 20,
        "learning_rate": 1e-3,
    },
    "balanced": {
        "steps": 400,
        "class_images": 48,
        "sample_every": 100,
        "sample_images": 4,
        "checkpoint_every": 50,
        "learning_rate": 5e-4,
    },
    "thorough": {
        "steps": 1500,
        "class_images": 96,
        "sample_every": 250,
        "sample_images": 4,
        "checkpoint_every": 100,
        "learning_rate": 3e-4,
        "ema_decay": 0.995,
    },
}
METHODS: dict[Method, dict[str, Any]] = {
    "lora": {},
    "full": {"learning_rate": 2e-5},
    "embedding": {"learning_rate": 5e-3},
}


def resolve_settings(preset: Preset, method: Method, single: dict[str, Any]) -> dict[str, Any]:
    """The trainer's settings: a single one goes before the method's, that before the preset's."""
    return PRESETS[preset] | METHODS[method] | single
