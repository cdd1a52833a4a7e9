"""Writes the Postman collection from the OpenAPI schema: `python -m scripts.postman`.

Each operation becomes a request for each of its examples, one for each kind of picture it answers,
and one that is refused where its body has required fields. The assertions are the schema's own
statuses, media types and answers. A path's parameter comes from an OpenAPI link of an earlier
answer; where no link leads to it, nothing has its placeholder, and 404 is the answer.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.access import NO_KEY
from api.main import app
from api.schemas.generate import EXAMPLE_PICTURE

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "postman"
COLLECTION = FOLDER / "dogbooth.postman_collection.json"
PICTURE = FOLDER / "example.png"
JSON, FORM = "application/json", "multipart/form-data"
METHODS = ("get", "post", "put", "patch", "delete")
DESCRIPTION = (
    "Every endpoint with its examples, in an order that runs, made by `make postman` from the "
    "service's OpenAPI schema. Set `base_url` to where the service listens, and `key` to the "
    "key of an admin where it asks for keys."
)
REFUSED = {
    "import_model": ("a picture is refused", ["409", "422"]),
    "start_training": ("without photos it is refused", ["409", "422"]),
}
"""Operations whose forms take files that the collection does not have."""
Schema = dict[str, Any]


def main() -> None:
    """Write the collection and the picture that it uploads."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    COLLECTION.write_text(collection_text(app.openapi()), encoding="utf-8")
    PICTURE.write_bytes(example_picture())


def example_picture() -> bytes:
    """One grey pixel as PNG."""
    return base64.b64decode(EXAMPLE_PICTURE.partition(",")[2])


def collection_text(schema: Schema) -> str:
    """The collection in Postman's format 2.1."""
    operations = [
        {"path": path, "method": method, **operation}
        for path, item in schema["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    links = {
        (link["operationId"], parameter)
        for operation in operations
        for _, link in links_of(operation)
        for parameter in link["parameters"]
    }
    # What others link to comes after them, and what is deleted comes last.
    targets = {operation_id for operation_id, _ in links}
    operations.sort(key=lambda o: (o["method"] == "delete", o["operationId"] in targets))
    variables = [{"key": "base_url", "value": "http://127.0.0.1:8000"}]
    variables += [{"key": "key", "value": NO_KEY}]
    variables += [
        {"key": f"{operation['operationId']}_{name}", "value": "nothing"}
        for operation in operations
        for name in path_parameters(operation)
    ]
    collection = {
        "info": {
            "name": "dogbooth",
            "description": DESCRIPTION,
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": {
            "type": "bearer",
            "bearer": [{"key": "token", "value": "{{key}}", "type": "string"}],
        },
        "variable": variables,
        "item": [item for operation in operations for item in items(operation, schema, links)],
    }
    return json.dumps(collection, indent=1, ensure_ascii=False) + "\n"


def items(operation: Schema, schema: Schema, links: set[tuple[str, str]]) -> Iterator[Schema]:
    """The requests that try one operation."""
    name = operation["summary"]
    known = all((operation["operationId"], p) in links for p in path_parameters(operation))
    statuses = [s for s in operation["responses"] if s.startswith("2")] if known else ["404"]
    content = operation.get("requestBody", {}).get("content", {})
    if JSON in content:
        bodies = list(json_bodies(content[JSON], schema))
        for title, body in bodies:
            yield request(operation, schema, f"{name}: {title}", statuses, json_body(body))
        for media in picture_types(operation):
            header = {"Accept": media}
            title, body = f"{name}: as {media}", json_body(bodies[0][1])
            yield request(operation, schema, title, ["200"], body, header)
        if resolve(content[JSON]["schema"], schema).get("required"):
            refused = [s for s in ("400", "422") if s in operation["responses"]]
            yield request(operation, schema, f"{name}: refused", refused, json_body({}))
        if FORM in content:
            body = form_body(resolve(content[FORM]["schema"], schema))
            yield request(operation, schema, f"{name}: from a file", statuses, body)
    elif FORM in content:
        body = form_body(resolve(content[FORM]["schema"], schema))
        if operation["operationId"] in REFUSED:
            title, statuses = REFUSED[operation["operationId"]]
            name = f"{name}: {title}"
        yield request(operation, schema, name, statuses, body)
    else:
        yield request(operation, schema, name, statuses, None)


def json_bodies(content: Schema, schema: Schema) -> Iterator[tuple[str, Any]]:
    """The documented examples, or one of what the fields' own examples say."""
    for example in content.get("examples", {}).values():
        yield example["summary"], example["value"]
    if "examples" not in content:
        body = resolve(content["schema"], schema)
        required = body.get("required", [])
        yield "example", {field: body["properties"][field]["examples"][0] for field in required}


def json_body(value: Any) -> Schema:
    """A body of JSON."""
    raw = json.dumps(value, indent=1, ensure_ascii=False)
    return {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}}


def form_body(schema: Schema) -> Schema:
    """A form with its required fields and a file, which is the picture."""
    files = [name for name, field in schema["properties"].items() if is_file(field)]
    fields = []
    for name in dict.fromkeys([*schema.get("required", []), *files[:1]]):
        field = schema["properties"][name]
        if is_file(field):
            fields.append({"key": name, "type": "file", "src": PICTURE.name})
        else:
            fields.append({"key": name, "type": "text", "value": str(field["examples"][0])})
    return {"mode": "formdata", "formdata": fields}


def is_file(field: Schema) -> bool:
    """Whether a form's field holds a file, or several."""
    return "contentMediaType" in str(field)


def request(
    operation: Schema,
    schema: Schema,
    name: str,
    statuses: list[str],
    body: Schema | None,
    headers: dict[str, str] | None = None,
) -> Schema:
    """One item of the collection, with the assertions for an answer of one of `statuses`."""
    path = operation["path"]
    for parameter in path_parameters(operation):
        path = path.replace(f"{{{parameter}}}", f"{{{{{operation['operationId']}_{parameter}}}}}")
    headers = headers or {}
    if body is not None and body["mode"] == "raw":
        headers = {"Content-Type": JSON, **headers}
    asked: Schema = {
        "method": operation["method"].upper(),
        "description": operation["description"],
        "header": [{"key": key, "value": value} for key, value in headers.items()],
        "url": {
            "raw": "{{base_url}}" + path,
            "host": ["{{base_url}}"],
            "path": path.removeprefix("/").split("/"),
        },
    }
    if body is not None:
        asked["body"] = body
    lines = assertions(operation, schema, statuses, headers.get("Accept"))
    script = {"listen": "test", "script": {"type": "text/javascript", "exec": lines}}
    return {"name": name, "event": [script], "request": asked}


def assertions(
    operation: Schema, schema: Schema, statuses: list[str], accept: str | None
) -> list[str]:
    """The test script: status, media type, the shape of a JSON answer, links to remember."""
    numbers = ", ".join(statuses)
    title = " or ".join(statuses)
    lines = [f'pm.test("{title}", () => pm.expect(pm.response.code).to.be.oneOf([{numbers}]));']
    for status in statuses:
        content = operation["responses"][status].get("content", {})
        types = [accept] if accept else list(content)
        inside = []
        if types:
            inside += [
                'const type = (pm.response.headers.get("Content-Type") ?? "").split(";")[0];',
                f'pm.test("a documented media type", () => '
                f"pm.expect(type).to.be.oneOf({json.dumps(types)}));",
            ]
        if JSON in types:
            shape = json.dumps(inlined(content[JSON]["schema"], schema), ensure_ascii=False)
            inside.append(
                f'if (type === "{JSON}") pm.test("the documented answer", () => '
                f"pm.response.to.have.jsonSchema({shape}));"
            )
            for answering, link in links_of(operation):
                if answering == status:
                    inside += [
                        remember(link["operationId"], name, expression)
                        for name, expression in link["parameters"].items()
                    ]
        if inside:
            lines += [f"if (pm.response.code === {status}) {{", *inside, "}"]
    return lines


def remember(operation_id: str, parameter: str, expression: str) -> str:
    """A line that keeps what a link's expression (`$response.body#/a/0/b`) points at."""
    steps = expression.removeprefix("$response.body#/").split("/")
    place = "".join(f"[{step}]" if step.isdigit() else f"?.{step}" for step in steps)
    value = "pm.response.json()" + place.replace("[", "?.[")
    return (
        'if (type === "application/json") '
        f'pm.collectionVariables.set("{operation_id}_{parameter}", {value});'
    )


def links_of(operation: Schema) -> Iterator[tuple[str, Schema]]:
    """The links of an operation's answers, each with the status that it belongs to."""
    for status, response in operation["responses"].items():
        for link in response.get("links", {}).values():
            yield status, link


def path_parameters(operation: Schema) -> list[str]:
    """Their names."""
    return [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]


def picture_types(operation: Schema) -> list[str]:
    """The kinds of picture that an operation answers with, by the Accept header."""
    content = operation["responses"].get("200", {}).get("content", {})
    return [media for media in content if media.startswith("image/") and JSON in content]


def resolve(schema: Schema, root: Schema) -> Schema:
    """What a reference refers to, or the schema itself."""
    if "$ref" not in schema:
        return schema
    found: Schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def inlined(value: Any, root: Schema) -> Any:
    """A schema with its references replaced, and without words that an assertion has no use for."""
    if isinstance(value, list):
        return [inlined(part, root) for part in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return inlined(resolve(value, root), root)
    # `properties` maps names, of which one may be "description".
    return {
        key: {name: inlined(part, root) for name, part in inner.items()}
        if key == "properties"
        else inlined(inner, root)
        for key, inner in value.items()
        if key not in ("description", "title", "examples", "default")
    }


if __name__ == "__main__":
    main()
