"""Models in and out: the four formats that other tools write and read."""

from typing import Literal, get_args

Format = Literal["diffusers", "checkpoint", "lora", "kohya"]
FORMATS: tuple[Format, ...] = get_args(Format)
