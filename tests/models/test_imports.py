import subprocess
import sys

import pytest

HEAVY = {"torch", "diffusers", "transformers", "peft"}
LIGHT_MODULES = [
    "models.requests",
    "models.errors",
    "models.manifest",
    "models.catalog",
    "models.schedulers",
    "models.admission",
    "models.picture",
    "api.main",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_a_light_module_imports_no_deep_learning_library(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not HEAVY & set(loaded)
