"""The files in deploy/ and beside it are not run here: what they name must exist."""

import re
from pathlib import Path

import pytest
import yaml

from api.main import app
from api.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOYED = [
    "Dockerfile",
    "docker-compose.yml",
    "deploy/compose.cuda.yml",
    "deploy/dogbooth.service",
    "deploy/prometheus.yml",
]


@pytest.mark.parametrize("name", DEPLOYED)
def test_every_setting_that_is_named_exists(name: str) -> None:
    named = re.findall(r"\bDOGBOOTH_([A-Z_]+)\b", (ROOT / name).read_text())
    assert {setting.lower() for setting in named} <= set(Settings.model_fields)


def test_compose_starts_the_service_with_its_database_and_prometheus() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(services) == {"dogbooth", "postgres", "prometheus"}
    assert set(services["dogbooth"]["depends_on"]) <= set(services)
    mounted = [mount for each in services.values() for mount in each["volumes"]]
    named = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    for source in (mount.split(":")[0] for mount in mounted):
        made_by_the_reader = source == "./deploy/prometheus.key"
        assert source in named or made_by_the_reader or (ROOT / source).is_file(), source
    built = services["dogbooth"]["build"]["args"]
    assert set(built) <= set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.M))


def test_the_cuda_file_adds_to_a_service_of_compose() -> None:
    more = yaml.safe_load((ROOT / "deploy" / "compose.cuda.yml").read_text())["services"]
    assert set(more) == {"dogbooth"}


def test_the_image_holds_every_package_and_asks_a_path_that_there_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = set(" ".join(re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.M)).split())
    assert {"api", "data", "models", "training", "scripts"} <= copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
    [path] = re.findall(r"http://127.0.0.1:8000(/\w+)", dockerfile)
    assert path in app.openapi()["paths"]
