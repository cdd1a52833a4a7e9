"""Retries with an Idempotency-Key."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.requests import Failed
from tests.api.scripted import ScriptedEngine
from tests.api.test_errors import error_of
from tests.api.waiting import DOG, in_background, start, state_once


def test_two_requests_with_one_key_are_one_generation(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    """Also where they come at once, before the first is submitted; quotes do not count."""
    calls = [
        in_background(scripted_client.post, "/generate", json=DOG, headers={"Idempotency-Key": key})
        for key in ("k-1", "k-1", '"k-1"')
    ]
    scripted.finish(0)
    answers = [call.result(60).json() for call in calls]
    later = scripted_client.post("/generate", json=DOG, headers={"Idempotency-Key": "k-1"}).json()
    assert answers[0]["images"][0]["seed"] == 7
    assert answers == [later] * 3
    assert len(scripted.handles) == 1


def test_a_key_with_another_body_is_refused(scripted_client: TestClient) -> None:
    start(scripted_client, Idempotency_Key="k-1")
    for path, body in (("/generations", {**DOG, "seed": 8}), ("/generate", {"prompt": "a dog"})):
        answer = scripted_client.post(path, json=body, headers={"Idempotency-Key": "k-1"})
        message = error_of(answer, 422, "idempotency_key_reused")
        assert message == "Idempotency-Key 'k-1': was sent before with another request"


def test_another_client_or_key_is_another_generation(
    scripted_app: FastAPI, scripted: ScriptedEngine
) -> None:
    with TestClient(scripted_app, client=("10.0.0.1", 1)) as one:
        start(one, Idempotency_Key="k-1")
        start(one, Idempotency_Key="k-2")
        start(one)
        other = TestClient(scripted_app, client=("10.0.0.2", 1))
        other.app_state.update(one.app_state)
        other.portal = one.portal
        start(other, Idempotency_Key="k-1")
        assert len(scripted.handles) == 4
        assert [handle.request.client for handle in scripted.handles[2:]] == [
            "10.0.0.1",
            "10.0.0.2",
        ]
        scripted.end_all()


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, '"x', "a\\b"])
def test_a_key_that_is_none_is_refused(scripted_client: TestClient, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    answer = scripted_client.post("/generations", json=DOG, headers=headers)
    assert error_of(answer, 422, "invalid_request").startswith("Idempotency-Key '")


def test_a_retry_after_a_failure_starts_anew(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    """A key that kept its failure would make every retry fail."""
    for index in range(2):
        path = start(scripted_client, Idempotency_Key="k-1")
        scripted.emit(index, Failed, code="out_of_memory", message="too large")
        assert state_once(scripted_client, path, "failed")
    third = start(scripted_client, Idempotency_Key="k-1")
    scripted_client.delete(third)
    assert start(scripted_client, Idempotency_Key="k-1") != third
    assert len(scripted.handles) == 4


def test_what_could_not_be_queued_leaves_no_key(
    scripted_client: TestClient, scripted: ScriptedEngine
) -> None:
    refused = {"prompt": "a dog", "width": 40}
    headers = {"Idempotency-Key": "k-1"}
    for _ in range(2):
        answer = scripted_client.post("/generations", json=refused, headers=headers)
        error_of(answer, 422, "invalid_request")
    start(scripted_client, Idempotency_Key="k-1")
