"""What a preset means for the trainer, as long as single settings say nothing else.

The learning rate is the trainer's choice, by the method, the optimizer and the size of the base.
"""

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
    },
    "balanced": {
        "steps": 500,
        "class_images": 48,
        "sample_every": 100,
        "sample_images": 4,
        "checkpoint_every": 50,
    },
    "thorough": {
        "steps": 1500,
        "class_images": 96,
        "sample_every": 250,
        "sample_images": 4,
        "checkpoint_every": 100,
        "ema_decay": 0.995,
    },
}


def resolve_settings(preset: Preset, single: dict[str, Any]) -> dict[str, Any]:
    """The trainer's settings: a single one goes before the preset's."""
    return PRESETS[preset] | single
