"""The whole schema against the live service: every check of schemathesis on every operation.

What a schema cannot say is not asked of the service: `fit` makes valid cases suit the tiny model
(sizes that it can draw, few steps) and gives them a picture where any string would do. Invalid
cases stay as they are.
"""

import base64
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig

from api.main import app
from api.schemas.generate import EXAMPLE_PICTURE
from models.catalog import Catalog
from models.manifest import ADAPTER_FILE
from tests.api.trained import form
from tests.tiny import publish_adapter

EXAMPLE_BASE64 = EXAMPLE_PICTURE.partition(",")[2]
PICTURE = base64.b64decode(EXAMPLE_BASE64)
CONFIG = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "max-examples": 10},
        "checks": {"max_response_time": 10.0},
        # DELETE cancels what has not ended; how it ended can still be asked, so it is not gone.
        "operations": [
            {
                "include-path-regex": "^/(generations|grids)/",
                "checks": {"use_after_free": {"enabled": False}},
            }
        ],
    }
)
schema = schemathesis.openapi.from_dict(deepcopy(app.openapi()), config=CONFIG)


@schema.auth()
class Key:
    """The key that valid requests carry."""

    secret = ""

    def get(self, case: schemathesis.Case, context: schemathesis.AuthContext) -> str:
        return Key.secret

    def set(self, case: schemathesis.Case, data: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@pytest.fixture(scope="module")
def address(guarded: tuple[str, str]) -> str:
    """Where the service listens that asks for `Key`."""
    address, Key.secret = guarded
    return address


AT_MOST = {"steps": 3, "n": 2, "batch_size": 2, "n_iter": 2, "upscale": 1}
"""More is refused by the service's own limits, or takes long."""
INSTEAD = {
    "width": 32,
    "height": 48,
    "size": "32x48",
    "init_image": EXAMPLE_PICTURE,
    "init_images": [EXAMPLE_BASE64],
    "enable_hr": False,
    "strength": 1.0,
    "denoising_strength": 1.0,
    "sampler_name": "Euler a",
    "sampler_index": "DDIM",
}
"""The schema allows sizes that this model cannot draw or enlarge to, strengths that leave no step,
and strings that are no pictures or no names."""

STRENGTHS = {
    "/generate": "strength",
    "/generations": "strength",
    "/v1/images/edits": "strength",
    "/sdapi/v1/img2img": "denoising_strength",
}
"""By the paths that start from a picture: the usual one leaves nothing of a single step."""


@cache
def lora_file() -> bytes:
    """A LoRA of the tiny model."""
    with TemporaryDirectory() as folder:
        catalog = Catalog([Path(folder)])
        publish_adapter(catalog, "rex")
        return (catalog.get("rex").folder / ADAPTER_FILE).read_bytes()


def fit(case: schemathesis.Case) -> None:
    """Make a valid case one that the service can serve."""
    assert case.meta is not None
    if not case.meta.generation.mode.is_positive:
        return
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid4().hex  # the same with another body is refused
    if case.path == "/trainings/{id}/events":
        case.path_parameters["id"] = uuid4().hex  # its stream may last as long as the training
    if case.query:
        case.query.pop("cursor", None)  # one that no answer gave is refused
    body = case.body
    if not isinstance(body, dict):
        return
    if (case.method, case.path) == ("POST", "/trainings"):
        fields = form(f"training-{uuid4().hex}")
        body.clear()
        body.update(fields["data"], photos=[file[1] for _, file in fields["files"]])
        return
    if (case.method, case.path) == ("POST", "/models"):
        body.update(file=lora_file(), name=f"upload-{uuid4().hex}", base="tiny")
        return
    if (case.method, case.path) == ("POST", "/grids"):
        fit_axes(body)
    fitting: dict[str, Any] = {}
    for field, value in body.items():
        if value is None:
            fitting[field] = None
        elif field in AT_MOST:
            fitting[field] = min(value, AT_MOST[field])
        elif field == "image":
            is_file = case.media_type == "multipart/form-data"
            fitting[field] = PICTURE if is_file else EXAMPLE_BASE64
        elif field == "image[]":
            fitting[field] = [PICTURE]
        elif field == "init_image" and case.media_type == "multipart/form-data":
            fitting[field] = PICTURE
        elif field == "scheduler" and "/sdapi/" in case.path:
            fitting[field] = "karras" if "kar" in value else "automatic"
        else:
            fitting[field] = INSTEAD.get(field, value)
    fitting.pop("timeout", None)  # too short a one is 504, rightly
    strength = STRENGTHS.get(case.path)
    if case.path.startswith("/gener") and fitting.get("init_image") is None:
        fitting.pop("strength", None)  # needs a picture
    elif strength is not None and fitting.get(strength) is None:
        fitting[strength] = 1.0
    body.clear()  # in place: a new body would be judged anew, and a file's bytes taken for invalid
    body.update(fitting)


def fit_axes(grid: dict[str, Any]) -> None:
    """Two different settings, few cells: what no schema says of two axes together."""
    for axis in (grid[name] for name in ("x", "y") if grid.get(name)):
        del axis["values"][2:]
        if axis["name"] == "steps":
            axis["values"][:] = [min(steps, AT_MOST["steps"]) for steps in axis["values"]]
    if grid.get("y") and grid["y"]["name"] == grid["x"]["name"]:
        del grid["y"]


@schema.parametrize()
def test_the_service_keeps_its_own_word(case: schemathesis.Case, address: str) -> None:
    fit(case)
    case.call_and_validate(base_url=address)


def test_links_lead_from_what_is_made_to_what_can_be_done_with_it(address: str) -> None:
    """Also after it was cancelled: what is gone must not answer, what is made must be there."""

    class Workflow(schema.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            fit(case)

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": address}

    Workflow.run(
        settings=settings(
            max_examples=15,
            stateful_step_count=8,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
    )


def test_every_check_is_on() -> None:
    load_all_checks()
    config = schema.config.checks_config_for()
    off = [
        name
        for name in CHECKS.get_all_names()
        if not config.get_by_name(name=name).enabled  # type: ignore[attr-defined]
    ]
    assert not off
