"""The library versions that a manifest records."""

import platform
from importlib.metadata import version

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "tokenizers")


def library_versions() -> dict[str, str]:
    """Python's version and those of the libraries that a training run leans on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
