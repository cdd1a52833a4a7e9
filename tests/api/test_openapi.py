from typing import Any

import pytest

from api.init_image import read_init_image
from api.main import app
from api.schemas.generate import EXAMPLE_PICTURE, MAX_STEPS
from models.grids import LABELS
from models.schedulers import SCHEDULERS

SCHEMA: dict[str, Any] = app.openapi()
FIELDS = [
    (name, field, schema)
    for name, component in SCHEMA["components"]["schemas"].items()
    for field, schema in component["properties"].items()
]
OPERATIONS = [
    (path, method, operation)
    for path, item in SCHEMA["paths"].items()
    for method, operation in item.items()
]


@pytest.mark.parametrize(("name", "field", "schema"), FIELDS, ids=lambda value: str(value)[:30])
def test_every_field_is_described_by_words_and_example(
    name: str, field: str, schema: dict[str, Any]
) -> None:
    assert schema.get("description"), f"{name}.{field}"
    nested = "$ref" in schema or "$ref" in schema.get("items", {})
    is_file = "contentMediaType" in str(schema)
    assert nested or is_file or schema.get("examples"), f"{name}.{field}"


def test_every_header_is_described_by_words_and_example() -> None:
    headers = [
        (parameter["name"], parameter["schema"])
        for _, _, operation in OPERATIONS
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "header"
    ]
    assert {name for name, _ in headers} >= {"Idempotency-Key", "Prefer", "Last-Event-ID"}
    for name, schema in headers:
        assert schema.get("description") and schema.get("examples"), name


@pytest.mark.parametrize(
    "body", ["GenerateRequest", "ImageGeneration", "ImageEdit", "Img2Img", "GridRequest"]
)
def test_every_number_asked_for_has_bounds(body: str) -> None:
    for field, schema in SCHEMA["components"]["schemas"][body]["properties"].items():
        for variant in schema.get("anyOf", [schema]):
            if variant.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(variant), field
                assert "maximum" in variant, field


@pytest.mark.parametrize(
    ("path", "method", "operation"), OPERATIONS, ids=lambda value: str(value)[:30]
)
def test_every_error_is_documented_in_the_shape_of_its_api(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    assert operation["summary"]
    assert operation["description"]
    shapes = {"v1": "OpenAIErrorAnswer", "sdapi": "WebUiError"}
    shape = shapes.get(path.split("/")[1], "ErrorAnswer")
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            schema = answer["content"]["application/json"]["schema"]
            assert schema == {"$ref": f"#/components/schemas/{shape}"}, f"{path} {status}"


def test_what_is_made_in_the_background_documents_where_to_ask() -> None:
    for path in ("/generate", "/generations"):
        accepted = SCHEMA["paths"][path]["post"]["responses"]["202"]
        assert "Location" in accepted["headers"]
        schema = accepted["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/GenerationState"}
    stream = SCHEMA["paths"]["/generations/{id}/events"]["get"]["responses"]["200"]
    assert "event: finished" in stream["content"]["text/event-stream"]["example"]


@pytest.mark.parametrize("path", ["/generate", "/generations"])
def test_a_form_has_the_fields_of_json_and_a_file(path: str) -> None:
    content = SCHEMA["paths"][path]["post"]["requestBody"]["content"]
    assert list(content) == ["application/json", "multipart/form-data"]
    fields = content["multipart/form-data"]["schema"]["properties"]
    assert list(fields) == list(SCHEMA["components"]["schemas"]["GenerateRequest"]["properties"])
    assert fields["init_image"]["contentMediaType"] == "application/octet-stream"
    assert "null" not in str(fields["steps"])


def test_the_example_picture_can_be_read() -> None:
    assert read_init_image(EXAMPLE_PICTURE, 64).size == (1, 1)


def test_generate_documents_pictures_and_every_scheduler() -> None:
    content = SCHEMA["paths"]["/generate"]["post"]["responses"]["200"]["content"]
    assert list(content) == ["application/json", "image/png", "image/jpeg", "image/webp"]
    scheduler = SCHEMA["components"]["schemas"]["GenerateRequest"]["properties"]["scheduler"]
    assert scheduler["enum"] == [*SCHEDULERS, None]


def test_each_axis_of_a_grid_says_what_values_it_takes() -> None:
    schemas = SCHEMA["components"]["schemas"]
    mapping = schemas["GridRequest"]["properties"]["x"]["discriminator"]["mapping"]
    values = {
        name: schemas[reference.rpartition("/")[2]]["properties"]["values"]["items"]
        for name, reference in mapping.items()
    }
    assert set(values) == set(LABELS)
    assert values["steps"] == {"type": "integer", "minimum": 1, "maximum": MAX_STEPS}
    assert values["scheduler"] == {"type": "string", "enum": [*SCHEDULERS]}
    assert (values["guidance_scale"]["type"], values["seed"]["type"]) == ("number", "integer")
