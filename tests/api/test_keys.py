"""Who may do what: with a key of each role, without one, from here and from elsewhere."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from api.__main__ import main
from api.access import requires
from api.body_limit import MAX_BODY_BYTES
from api.database.connection import Database, open_database
from api.database.tables import ApiKey
from api.keys import ROLES, KeyRefused, Keys, Quota
from api.main import create_app
from api.settings import Settings
from models.catalog import Catalog
from tests.api.conftest import make_settings
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.waiting import DOG, in_background, start, state_once, wait_until

PUBLIC = {"/", "/docs", "/healthz", "/readyz"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def closed(kept: Settings) -> Settings:
    return kept.model_copy(update={"allow_anonymous": None})


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


@pytest.fixture
def app(closed: Settings) -> FastAPI:
    return create_app(closed, ScriptedEngine(Catalog([closed.home / "models"])))


@pytest.fixture
def here(app: FastAPI) -> Iterator[TestClient]:
    """A client on the same machine."""
    with TestClient(app, base_url="http://localhost:8000", client=("127.0.0.1", 1)) as client:
        yield client
        client.app_state["service"].engine.end_all()


def elsewhere(
    here: TestClient, address: str = "192.0.2.7", host: str = "dogs.example"
) -> TestClient:
    """A client of the same service from another address."""
    client = TestClient(here.app, base_url=f"http://{host}", client=(address, 1))
    client.app_state.update(here.app_state)
    client.portal = here.portal
    return client


# Without a key.


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_without_any_key_this_machine_may_do_everything(
    here: TestClient, address: str, host: str
) -> None:
    client = elsewhere(here, address, host)
    assert client.get("/models").status_code == 200
    assert client.get("/usage").json()["client"]["role"] == "admin"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.7", "localhost"),
        ("::ffff:192.0.2.7", "localhost"),
        ("127.0.0.1", "dogs.example"),  # a proxy, or a web page whose name points here
        ("127.0.0.1", "localhost.dogs.example"),
        ("", "localhost"),
        ("testclient", "localhost"),
    ],
)
def test_without_any_key_others_are_refused(here: TestClient, address: str, host: str) -> None:
    answer = elsewhere(here, address, host).get("/models")
    assert error_of(answer, 401, "not_authenticated").startswith("a key is needed")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_once_there_is_a_key_this_machine_needs_one_too(here: TestClient, keys: Keys) -> None:
    key = keys.create("page", "viewer", Quota())
    error_of(here.get("/models"), 401, "not_authenticated")
    assert here.get("/models", headers=bearer(key)).status_code == 200


def test_revoking_the_last_key_does_not_open_the_service(here: TestClient, keys: Keys) -> None:
    key = keys.create("page", "admin", Quota())
    keys.revoke("page")
    error_of(here.get("/models"), 401, "not_authenticated")
    answer = here.get("/models", headers=bearer(key))
    assert error_of(answer, 401, "not_authenticated").startswith("the key is not valid")


def test_anonymous_clients_have_the_role_that_the_operator_gives(closed: Settings) -> None:
    settings = closed.model_copy(update={"allow_anonymous": "viewer"})
    engine = ScriptedEngine(Catalog([settings.home / "models"]))
    with TestClient(create_app(settings, engine), client=("192.0.2.7", 1)) as client:
        assert client.get("/models").status_code == 200
        message = error_of(client.post("/generate", json=DOG), 403, "forbidden")
        assert message == "who comes without a key has the role viewer: this needs artist"
        error_of(client.get("/models", headers=bearer("wrong")), 401, "not_authenticated")


def test_health_needs_no_key(here: TestClient) -> None:
    stranger = elsewhere(here)
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert stranger.get(path).status_code == 200


# With a key.


def test_each_role_may_do_what_the_ones_before_it_may(here: TestClient, keys: Keys) -> None:
    asked = {
        "viewer": lambda headers: here.get("/generations", headers=headers),
        "artist": lambda headers: here.post("/generations", json=DOG, headers=headers),
    }
    for role in ROLES:
        headers = bearer(keys.create(role, role, Quota()))
        for needed, ask in asked.items():
            allowed = ROLES.index(role) >= ROLES.index(needed)
            assert ask(headers).status_code in ((200, 202) if allowed else (403,)), (role, needed)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer dogbooth_0123456789abcdef_short",
        f"Bearer dogbooth_{'0' * 16}_{'a' * 43}",
        "Basic !!!",
        "Basic YTpi",
        "Digest x",
        "",
        "Bearer \u00e9",
    ],
)
def test_what_is_no_key_is_401_also_where_none_is_needed(here: TestClient, header: str) -> None:
    answer = here.get("/models", headers={"Authorization": header.encode("latin-1")})
    error_of(answer, 401, "not_authenticated")


def test_a_key_with_one_letter_changed_is_refused(here: TestClient, keys: Keys) -> None:
    key = keys.create("page", "viewer", Quota())
    for position in (len("dogbooth_"), len(key) - 2):
        letter = "0" if key[position] != "0" else "1"
        wrong = key[:position] + letter + key[position + 1 :]
        error_of(here.get("/models", headers=bearer(wrong)), 401, "not_authenticated")


def test_clients_that_know_passwords_only_send_the_key_as_one(here: TestClient, keys: Keys) -> None:
    key = keys.create("webui", "artist", Quota())
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    answer = here.get("/usage", headers={"Authorization": f"Basic {basic}"})
    assert answer.json()["client"]["key"] == "webui"


def test_the_engine_takes_turns_over_keys(here: TestClient, keys: Keys) -> None:
    one, other = (keys.create(name, "artist", Quota()) for name in ("one", "other"))
    for key in (one, one, other):
        here.headers.update(bearer(key))
        start(here)
    engine = here.app_state["service"].engine
    clients = [handle.request.client for handle in engine.handles]
    assert clients[0] == clients[1] != clients[2]
    assert all(client.startswith("key:") and client[4:] in one + other for client in clients)


def test_only_its_owner_and_an_admin_remove_a_generation(here: TestClient, keys: Keys) -> None:
    owner, other, admin = (
        bearer(keys.create(name, role, Quota()))
        for name, role in (("owner", "artist"), ("other", "trainer"), ("admin", "admin"))
    )
    here.headers.update(owner)
    path = start(here)
    here.app_state["service"].engine.finish(0)
    image = state_once(here, path, "finished")["answer"]["images"][0]["url"]
    for url in (path, image):
        assert here.get(url, headers=other).status_code == 200
        error_of(here.delete(url, headers=other), 403, "forbidden")
    assert here.delete(image, headers=owner).status_code == 204
    assert here.delete(path, headers=admin).status_code == 204


def test_the_database_holds_no_secret(keys: Keys, database: Database) -> None:
    key = keys.create("page", "viewer", Quota())
    secret = key.split("_", 2)[2]
    with database.read() as session:
        row = session.execute(text("SELECT * FROM api_keys")).one()
    assert not [value for value in row if secret in str(value)]
    assert "page" in row


def test_when_a_key_was_last_seen_is_kept_to_the_minute(keys: Keys, database: Database) -> None:
    key = keys.create("page", "viewer", Quota())
    seen = []
    for _ in range(2):
        keys.find(key)
        [row] = keys.all()
        seen.append(row.used)
    assert seen[0] == seen[1] is not None
    with database.write() as session:
        session.execute(update(ApiKey).values(used=row.created.replace(year=2020)))
    keys.find(key)
    with database.read() as session:
        assert session.scalar(select(ApiKey.used)) > row.created  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "role", "quota", "message"),
    [
        ("", "viewer", Quota(), "name ''"),
        ("a\nb", "viewer", Quota(), r"name 'a\\nb'"),
        ("x" * 65, "viewer", Quota(), "name 'xxx"),
        ("page", "owner", Quota(), "role 'owner': one of viewer, artist, trainer, admin"),
        ("page", "viewer", Quota(requests_per_minute=0), "requests_per_minute 0: must be above"),
        ("taken", "viewer", Quota(), "name 'taken': another key has it"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(
    keys: Keys, name: str, role: str, quota: Quota, message: str
) -> None:
    keys.create("taken", "viewer", Quota())
    with pytest.raises(KeyRefused, match=message):
        keys.create(name, role, quota)
    assert [row.name for row in keys.all()] == ["taken"]


def test_models_are_brought_by_trainers_and_changed_by_admins(here: TestClient, keys: Keys) -> None:
    asked = {
        "viewer": lambda headers: here.get("/models/tiny/download", headers=headers),
        "trainer": lambda headers: here.post("/models/tiny/unload", headers=headers),
        "admin": lambda headers: here.delete("/models/rex", headers=headers),
    }
    for role in ROLES:
        headers = bearer(keys.create(role, role, Quota()))
        for needed, ask in asked.items():
            allowed = ROLES.index(role) >= ROLES.index(needed)
            assert ask(headers).status_code in ((200, 204) if allowed else (403,)), (role, needed)


@pytest.mark.parametrize(
    ("role", "size", "status"),
    [
        (None, 1000, 401),
        (None, MAX_BODY_BYTES, 413),
        ("artist", 1000, 403),
        ("artist", MAX_BODY_BYTES, 413),
        ("trainer", MAX_BODY_BYTES, 422),
    ],
)
def test_who_may_not_import_models_sends_no_large_file(
    here: TestClient, keys: Keys, role: str | None, size: int, status: int
) -> None:
    """FastAPI would store it on the disk before it asks for the role."""
    stranger = elsewhere(here)
    if role is not None:
        stranger.headers.update(bearer(keys.create(role, role, Quota())))
    answer = stranger.post("/models", files={"file": bytes(size)}, data={"name": "max"})
    assert answer.status_code == status, answer.text


# Clients of other APIs.


def test_openais_client_sends_none_where_it_has_no_key(here: TestClient, keys: Keys) -> None:
    assert here.get("/v1/models", headers=bearer("none")).status_code == 200
    key = keys.create("openai", "viewer", Quota())
    assert here.get("/v1/models", headers=bearer(key)).status_code == 200
    answer = here.get("/v1/models", headers=bearer("none"))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"
    answer = here.post("/v1/images/generations", json={"prompt": "a dog"}, headers=bearer(key))
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_webuis_clients_are_refused_in_its_words(here: TestClient, keys: Keys) -> None:
    key = keys.create("webui", "viewer", Quota(requests_per_minute=1))
    for headers, status, code in (
        ({}, 401, "not_authenticated"),
        (bearer(key), 403, "forbidden"),
        (bearer(key), 429, "rate_limited"),
    ):
        answer = here.post("/sdapi/v1/txt2img", json={"prompt": "a dog"}, headers=headers)
        assert answer.status_code == status
        assert (answer.json()["error"], "body" in answer.json()) == (code, True)


def test_each_key_has_its_own_checkpoint_and_progress(here: TestClient, keys: Keys) -> None:
    one, other = (bearer(keys.create(name, "artist", Quota())) for name in ("one", "other"))
    chosen = {"sd_model_checkpoint": "rex"}
    assert here.post("/sdapi/v1/options", json=chosen, headers=one).status_code == 200
    options = [here.get("/sdapi/v1/options", headers=headers).json() for headers in (one, other)]
    assert [each["sd_model_checkpoint"] for each in options] == ["rex", "tiny"]
    body = {"prompt": "a dog"}
    call = in_background(here.post, "/sdapi/v1/txt2img", json=body, headers=one)

    def jobs(headers: dict[str, str]) -> int:
        progress = here.get("/sdapi/v1/progress", headers=headers).json()
        count: int = progress["state"]["job_count"]
        return count

    wait_until(lambda: jobs(one) == 1)
    assert jobs(other) == 0
    engine = here.app_state["service"].engine
    assert here.post("/sdapi/v1/interrupt", headers=other).status_code == 200
    engine.finish(0)
    assert len(call.result(30).json()["images"]) == 1
    assert engine.handles[0].request.model == "rex"


# The command line.


def test_keys_are_made_listed_and_revoked_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOGBOOTH_HOME", str(tmp_path))
    line = ["keys", "create", "--name", "page", "--role", "artist", "--concurrent-jobs", "2"]
    assert main(line) == 0
    key = capsys.readouterr().out.strip()
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "page" in listed and "artist" in listed and "valid" in listed and key not in listed
    database = open_database(None, tmp_path)
    found = Keys(database).find(key)
    database.close()
    assert found is not None
    assert (found.name, found.concurrent_jobs) == ("page", 2)
    assert main(line) == 1
    assert capsys.readouterr().err == "name 'page': another key has it, or had it before\n"
    assert main(["keys", "revoke", "--name", "page"]) == 0
    assert main(["keys", "revoke", "--name", "nobody"]) == 1
    assert main(["keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out


# Every route.


def declared_roles(app: FastAPI) -> dict[tuple[str, str], int]:
    """How many roles each route asks for, by path and method."""
    marker = requires("viewer").dependency.__qualname__
    found = {}
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.path not in PUBLIC:
            calls = [each.call for each in route.dependant.dependencies]
            count = sum(getattr(call, "__qualname__", "") == marker for call in calls)
            found |= {(route.path, method): count for method in route.methods}
    return found


def test_every_route_asks_for_one_role(tmp_path: Path) -> None:
    """A route that declares none is open to the whole world; two count a request twice."""
    roles = declared_roles(create_app(make_settings(tmp_path)))
    assert ("/generate", "POST") in roles
    assert {where: count for where, count in roles.items() if count != 1} == {}


def test_swagger_knows_where_the_key_goes(app: FastAPI) -> None:
    schema = app.openapi()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, item in schema["paths"].items():
        for operation in item.values():
            assert operation.get("security", []) == ([] if path in PUBLIC else [{"key": []}]), path
            if path not in PUBLIC:
                assert {"401", "403", "429"} <= set(operation["responses"]), path
