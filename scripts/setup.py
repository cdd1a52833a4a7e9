"""Installs the project into .venv with Poetry, which it puts into .poetry: `make setup`.

What stands behind it goes to `poetry install`: `python scripts/setup.py --only main`.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POETRY_HOME = ROOT / ".poetry"
POETRY = ["poetry>=2.1,<3", "poetry-plugin-pypi-mirror>=0.6,<1"]
OLDEST = (3, 11)

# The index that pip itself would ask: its configuration, or its built-in default.
FIND_INDEX = """
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
configuration = Configuration(isolated=False)
configuration.load()
keys = [':env:.index-url', 'install.index-url', 'global.index-url']
values = dict(configuration.items())
if any(isinstance(value, dict) for value in values.values()):  # pip 25.3 and newer, by file
    values = {k: v for part in values.values() for k, v in part.items()}
print(next((values[key] for key in keys if key in values), PyPI.simple_url))
"""


def main() -> None:
    """Make .poetry where it is missing, then install what poetry.lock names."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"dogbooth needs Python {'.'.join(map(str, OLDEST))} or newer, this is "
            f"{sys.version.split()[0]}: PYTHON=python3.12 make …"
        )
    bin_folder = POETRY_HOME / ("Scripts" if os.name == "nt" else "bin")
    python, poetry = str(bin_folder / "python"), bin_folder / "poetry"
    if not poetry.exists():
        run([sys.executable, "-m", "venv", str(POETRY_HOME)], "python3-venv may be missing")
        run([python, "-m", "pip", "install", "--quiet", *POETRY], "Poetry could not be installed")
    index = subprocess.run(
        [python, "-c", FIND_INDEX], capture_output=True, text=True, check=True
    ).stdout.strip()
    # Poetry reads neither pip's configuration nor indexes that serve the HTML form only; the
    # plugin lets it ask the index that pip asks.
    environment = os.environ | {"POETRY_PYPI_MIRROR_URL": index}
    # Compiled now, as importing torch and diffusers takes twice as long the first time otherwise.
    run(
        [str(poetry), "install", "--no-interaction", "--compile", *sys.argv[1:]],
        "the packages could not be installed",
        environment,
    )


def run(command: list[str], trouble: str, environment: dict[str, str] | None = None) -> None:
    """Run `command` in the project's folder; end with `trouble` when it fails."""
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        sys.exit(f"set-up failed at `{' '.join(command)}`: {trouble}")


if __name__ == "__main__":
    main()
