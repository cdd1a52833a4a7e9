import gc
import time
from collections.abc import Iterator

import pytest
import torch

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import GenerationFailed, InvalidModel, NotEnoughMemory
from models.manifest import ADAPTER_FILE
from models.requests import GenerationRequest, Limits, Step
from models.residents import Residents, find_address
from tests.memory import memory
from tests.tiny import publish_adapter, publish_base

CPU = torch.device("cpu")
BASE_SIZE = 450_000
"""Bytes of the tiny base in fp32, a little more than it has."""


@pytest.fixture
def residents(catalog: Catalog) -> Iterator[Residents]:
    residents = Residents(catalog, CPU, torch.float32, 10**9, lambda: None)
    yield residents
    residents.close()


def load(residents: Residents, catalog: Catalog, model: str, in_use=frozenset()):
    """The model's placement, loaded in as many turns as it takes."""
    for _ in range(2000):
        placement = residents.find(find_address(model, catalog))
        if placement is not None:
            return placement
        assert residents.load(model, in_use), "no room"
        collected = residents.collect()
        if collected is not None and collected[1] is not None:
            raise collected[1]
        time.sleep(0.005)
    raise AssertionError("never loaded")


def test_adapters_share_their_base(residents: Residents, catalog: Catalog) -> None:
    publish_adapter(catalog, "max")
    rex, other = load(residents, catalog, "rex"), load(residents, catalog, "max")
    assert rex.base is other.base
    assert set(residents.names()) == {"tiny", "rex", "max"}
    assert residents.size == rex.base.size + rex.adapter.size + other.adapter.size


def test_what_was_used_least_recently_leaves_first(residents: Residents, catalog: Catalog) -> None:
    publish_base(catalog, "other")
    tiny, other = load(residents, catalog, "tiny"), load(residents, catalog, "other")
    residents.find(find_address("tiny", catalog))
    residents.budget = int(1.2 * (tiny.base.size + other.base.size))
    publish_base(catalog, "third")
    load(residents, catalog, "third")
    assert set(residents.names()) == {"tiny", "third"}


def test_what_is_in_use_never_leaves(residents: Residents, catalog: Catalog) -> None:
    rex = load(residents, catalog, "rex")
    residents.budget = BASE_SIZE
    publish_base(catalog, "other")
    assert not residents.load("other", {rex.base, rex.adapter})
    assert residents.find(find_address("rex", catalog)) is not None
    load(residents, catalog, "other")
    assert residents.names() == ("other",)


def test_an_adapter_leaves_alone_when_that_is_enough(
    residents: Residents, catalog: Catalog
) -> None:
    publish_adapter(catalog, "max")
    rex = load(residents, catalog, "rex")
    file = catalog.get("max").folder / ADAPTER_FILE
    residents.budget = residents.size + file.stat().st_size - 1
    load(residents, catalog, "max", {rex.base})
    assert set(residents.names()) == {"tiny", "max"}


def test_a_model_above_the_budget_is_refused_with_both_sizes(
    residents: Residents, catalog: Catalog
) -> None:
    residents.budget = 1000
    with pytest.raises(NotEnoughMemory, match="tiny needs 0 MiB, the memory budget is 0 MiB"):
        residents.load("tiny", frozenset())


def test_a_base_published_again_is_loaded_again(residents: Residents, catalog: Catalog) -> None:
    before = load(residents, catalog, "rex")
    publish_base(catalog, "tiny", seed=5)
    after = load(residents, catalog, "rex")
    assert after.base is not before.base
    assert set(residents.names()) == {"tiny", "rex"}


def test_a_missing_base_and_an_adapter_of_an_adapter_are_refused(
    residents: Residents, catalog: Catalog
) -> None:
    publish_adapter(catalog, "lost", base="gone")
    with pytest.raises(InvalidModel, match="lost: its base is missing: no model is called 'gone'"):
        load(residents, catalog, "lost")
    publish_adapter(catalog, "twice", base="rex")
    with pytest.raises(InvalidModel, match="twice: its base is itself an adapter"):
        load(residents, catalog, "twice")


def ask(engine: LocalEngine, model: str, steps: int = 1, seeds: int = 1):
    request = GenerationRequest("a dog", tuple(range(seeds)), model, steps=steps)
    return engine.submit(request)


def test_two_checkpoints_that_do_not_fit_together_both_come_to_their_turn(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.engine.PATIENCE", 0.05)
    publish_base(catalog, "other")
    engine = LocalEngine(
        catalog, "cpu", "fp32", memory_budget=BASE_SIZE, limits=Limits(max_steps=500), threads=1
    )
    first = ask(engine, "tiny", steps=40)
    next(event for event in first.events(timeout=60) if isinstance(event, Step))
    second = ask(engine, "other", steps=3)
    for _ in range(3):
        later = ask(engine, "tiny", steps=3)
    for handle in (first, second, later):
        assert handle.result(60).images
    assert len(engine.describe().resident) == 1
    engine.close()


def test_a_model_above_the_budget_fails_its_request(catalog: Catalog) -> None:
    engine = LocalEngine(catalog, "cpu", "fp32", memory_budget=1000, threads=1)
    with pytest.raises(GenerationFailed, match="the memory budget is") as caught:
        ask(engine, "tiny").result(60)
    assert caught.value.code == "out_of_memory"
    engine.close()


def test_memory_stays_level_over_fifty_switches(catalog: Catalog) -> None:
    publish_base(catalog, "other")
    engine = LocalEngine(catalog, "cpu", "fp32", memory_budget=BASE_SIZE, threads=1)
    resident = []
    for turn in range(50):
        ask(engine, ("tiny", "other")[turn % 2]).result(60)
        resident.append(memory())
    engine.close()
    gc.collect()
    assert max(resident[25:]) <= 1.05 * max(resident[10:25])
