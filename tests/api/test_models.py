from fastapi import FastAPI
from fastapi.testclient import TestClient

from data.breeds import BREEDS
from models.catalog import Catalog
from tests.tiny import publish_adapter, publish_base


def test_models_are_listed_with_what_one_needs_to_ask(client: TestClient) -> None:
    client.post("/generate", json={"prompt": "a dog"})
    rex, tiny = client.get("/models").json()["models"]
    assert (rex["name"], rex["kind"], rex["base"], rex["breeds"]) == (
        "rex",
        "adapter",
        "tiny",
        ["pug"],
    )
    assert (tiny["name"], tiny["default"], tiny["resident"]) == ("tiny", True, True)
    assert (tiny["resolution"], tiny["size_multiple"], tiny["default_steps"]) == (32, 16, 2)
    assert not rex["default"]
    assert "training" not in rex


def test_one_model_comes_with_its_training_and_evaluation(client: TestClient) -> None:
    answer = client.get("/models/rex").json()
    assert (answer["name"], answer["training"], answer["evaluation"]) == ("rex", {}, {})


def test_a_model_published_while_the_service_runs_is_served(
    own_app: FastAPI, catalog: Catalog
) -> None:
    with TestClient(own_app) as client:
        assert client.get("/models/bella").status_code == 404
        publish_adapter(catalog, "bella")
        assert "bella" in [model["name"] for model in client.get("/models").json()["models"]]
        answer = client.post("/generate", json={"prompt": "a dog", "model": "bella"})
        assert answer.json()["model"] == "bella"


def test_a_model_published_again_is_served_anew(own_app: FastAPI, catalog: Catalog) -> None:
    asked = {"prompt": "a dog", "seed": 1}
    with TestClient(own_app) as client:
        before = client.post("/generate", json=asked).json()["images"][0]["id"]
        publish_base(catalog, "tiny", seed=8)
        assert client.post("/generate", json=asked).json()["images"][0]["id"] != before


def test_the_120_breeds_say_which_models_know_them(client: TestClient) -> None:
    breeds = {breed["name"]: breed for breed in client.get("/breeds").json()["breeds"]}
    assert set(breeds) == {breed.name for breed in BREEDS}
    assert len(breeds) == 120
    assert breeds["beagle"]["models"] == ["rex", "tiny"]
    assert breeds["pug"]["models"] == ["rex"]
    assert breeds["basenji"]["models"] == []
    assert breeds["golden retriever"]["synset"] == "n02099601"
