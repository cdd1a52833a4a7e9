import re
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from models.engine import LocalEngine
from models.manifest import ADAPTER_FILE
from tests.api.scripted import ScriptedEngine
from tests.api.waiting import wait_until

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "dogbooth.json"


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus writes them."""
    return {
        sample.name
        + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics_of(client: TestClient) -> dict[str, float]:
    return read(client.get("/metrics").text)


def test_a_picture_is_counted_from_the_request_to_its_steps(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        before = metrics_of(client)
        assert before["dogbooth_images_total"] == 0
        assert before["dogbooth_ready"] == 0
        body = {"prompt": "a dog", "n": 2, "steps": 3, "model": "rex"}
        assert client.post("/generate", json=body).status_code == 200
        now = metrics_of(client)
    assert now["dogbooth_http_requests_total method=POST path=/generate status=200"] == 1
    assert now["dogbooth_http_request_seconds_count method=POST path=/generate"] == 1
    assert now["dogbooth_images_total"] == 2
    assert now["dogbooth_generations_total outcome=finished"] == 1
    assert now["dogbooth_model_loads_total outcome=loaded"] == 2
    assert now["dogbooth_model_resident model=rex"] == 1
    assert 0 < now["dogbooth_weights_bytes"] < now["dogbooth_weights_budget_bytes"]
    assert now["dogbooth_step_seconds_count"] == 3
    assert now["dogbooth_step_seconds_sum"] > 0
    assert now["dogbooth_batch_rows_sum"] == 12  # two pictures with guidance, three steps
    assert now["dogbooth_batch_rows_bucket le=2"] == 0
    assert now["dogbooth_batch_rows_bucket le=4"] == 3
    assert now["dogbooth_queue_depth"] == now["dogbooth_generations_running"] == 0
    assert now["dogbooth_ready"] == 1


def test_failures_are_counted_by_status_and_outcome(own_app: FastAPI, tmp_path: Path) -> None:
    (tmp_path / "models" / "rex" / ADAPTER_FILE).write_bytes(b"no")
    with TestClient(own_app, raise_server_exceptions=False) as client:
        client.post("/generate", json={"prompt": "a dog", "model": "rex"})
        (tmp_path / "images").write_text("in the way")
        client.post("/generate", json={"prompt": "a dog"})
        client.post("/generate", json={})
        now = metrics_of(client)
    assert now["dogbooth_http_requests_total method=POST path=/generate status=500"] == 2
    assert now["dogbooth_http_requests_total method=POST path=/generate status=422"] == 1
    assert now["dogbooth_generations_total outcome=failed"] == 1
    assert now["dogbooth_model_loads_total outcome=failed"] == 1


def test_names_that_clients_choose_make_no_series(own_app: FastAPI) -> None:
    with TestClient(own_app) as client:
        for name in ("a", "b"):
            client.get(f"/{name}")
            client.get(f"/models/{name}")
            client.request(name.upper(), "/generate")
        now = metrics_of(client)
    assert now["dogbooth_http_requests_total method=GET path=unknown status=404"] == 2
    assert now["dogbooth_http_requests_total method=GET path=/models/{name} status=404"] == 2
    assert now["dogbooth_http_requests_total method=other path=/generate status=405"] == 2


def test_the_queue_is_seen_while_it_is_full(address: str, engine: LocalEngine) -> None:
    long = {"prompt": "a dog", "steps": 150, "n": 8}
    first = httpx.post(f"{address}/generations", json=long)
    wait_until(lambda: engine.describe().running == 1)
    httpx.post(f"{address}/generations", json=long)
    now = read(httpx.get(f"{address}/metrics").text)
    assert now["dogbooth_generations_running"] + now["dogbooth_queue_depth"] == 2
    assert now["dogbooth_queue_limit"] == 1
    assert first.status_code == 202
    engine.close(timeout=0.1)


def test_each_service_counts_for_itself(
    client: TestClient, scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    client.get("/breeds")
    assert not [name for name in metrics_of(scripted_client) if "/breeds" in name]
    assert metrics_of(scripted_client)["dogbooth_engine_restarts_total"] == 2


def test_the_dashboard_shows_metrics_that_there_are(client: TestClient) -> None:
    client.post("/generate", json={"prompt": "a dog"})
    client.get("/metrics")
    there = {name.split(" ")[0] for name in metrics_of(client)}
    asked = set(re.findall(r"\b(?:dogbooth|process)_\w+", DASHBOARD.read_text()))
    assert len(asked) > 10
    assert asked <= there
