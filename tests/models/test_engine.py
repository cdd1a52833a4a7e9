import threading
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import EngineClosed, GenerationCancelled, GenerationFailed, QueueFull
from models.manifest import ADAPTER_FILE
from models.requests import (
    Cancelled,
    Failed,
    Finished,
    GenerationRequest,
    Handle,
    Limits,
    Queued,
    Started,
    Step,
)
from tests.tiny import publish_adapter, publish_base

WAIT = 60.0
LIMITS = Limits(max_steps=900, max_images=50)


@pytest.fixture
def engine(catalog: Catalog) -> Iterator[LocalEngine]:
    engine = LocalEngine(catalog, "cpu", "fp32", queue_limit=2, limits=LIMITS, threads=1)
    yield engine
    engine.close()


def request(prompt: str = "a dog", seeds: tuple[int, ...] = (1,), model: str = "tiny", steps=2):
    return GenerationRequest(prompt, seeds, model, steps=steps)


def endless(model: str = "tiny") -> GenerationRequest:
    return request("a dog that never comes", tuple(range(50)), model, steps=900)


def until_running(handle: Handle) -> None:
    next(event for event in handle.events(timeout=WAIT) if isinstance(event, Step))


def pixels(handle: Handle) -> list[bytes]:
    return [made.image.tobytes() for made in handle.result(WAIT).images]


def test_a_requests_events_come_in_order_and_replay(engine: LocalEngine) -> None:
    handle = engine.submit(request(seeds=(1, 2), steps=3))
    kinds = [type(event) for event in handle.events(timeout=WAIT)]
    assert kinds == [Queued, Started, *[Step] * 6, Finished]
    replayed = list(handle.events(after=5))
    assert [event.id for event in replayed] == [6, 7, 8]
    assert [event.step for event in handle.events() if isinstance(event, Step)] == [*range(1, 7)]


def test_waiting_for_an_event_ends_in_time(engine: LocalEngine) -> None:
    handle = engine.submit(endless())
    waiting = engine.submit(request())
    with pytest.raises(TimeoutError):
        list(waiting.events(after=0, timeout=0.05))
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.05)
    handle.cancel()


def test_the_same_seed_gives_the_same_pixels_alone_or_in_company(engine: LocalEngine) -> None:
    alone = pixels(engine.submit(request(seeds=(7,))))
    company = pixels(engine.submit(request(seeds=(6, 7))))
    assert alone == [company[1]]
    assert company[0] != company[1]


def test_an_ancestral_scheduler_repeats_its_seed_too(engine: LocalEngine) -> None:
    asked = GenerationRequest("a dog", (3,), "tiny", steps=4, scheduler="euler_ancestral")
    first = pixels(engine.submit(asked))
    engine.submit(request())
    assert pixels(engine.submit(asked)) == first


def test_prompt_negative_prompt_and_adapter_change_the_picture(engine: LocalEngine) -> None:
    asked = [
        request("a dog"),
        request("un perro"),
        GenerationRequest("a dog", (1,), "tiny", negative_prompt="blurry", steps=2),
        request("a dog", model="rex"),
    ]
    assert len({pixels(engine.submit(each))[0] for each in asked}) == 4


def test_a_resolved_request_comes_with_the_pictures(engine: LocalEngine) -> None:
    finished = engine.submit(GenerationRequest("a dog", (1,), "tiny", width=48)).result(WAIT)
    assert finished.images[0].image.size == (48, 32)
    assert (finished.request.steps, finished.request.scheduler) == (2, "ddim")


def test_requests_run_in_the_order_they_came(engine: LocalEngine) -> None:
    first, second = engine.submit(request(steps=30)), engine.submit(request())
    second.result(WAIT)
    assert isinstance(list(first.events())[-1], Finished)


def test_cancel_ends_a_running_request_between_two_steps(engine: LocalEngine) -> None:
    handle = engine.submit(endless())
    until_running(handle)
    handle.cancel()
    with pytest.raises(GenerationCancelled):
        handle.result(WAIT)
    assert isinstance(list(handle.events())[-1], Cancelled)
    assert pixels(engine.submit(request()))


def test_cancel_ends_a_waiting_request_at_once(engine: LocalEngine) -> None:
    running, waiting = engine.submit(endless()), engine.submit(request())
    until_running(running)
    waiting.cancel()
    with pytest.raises(GenerationCancelled):
        waiting.result(timeout=1)
    assert engine.describe().queued == 0
    running.cancel()


def test_cancel_after_the_end_changes_nothing(engine: LocalEngine) -> None:
    handle = engine.submit(request())
    handle.result(WAIT)
    handle.cancel()
    assert handle.result().images[0].seed == 1


def test_a_full_queue_refuses_and_says_when_to_come_again(engine: LocalEngine) -> None:
    running = engine.submit(endless())
    until_running(running)
    waiting = [engine.submit(request()) for _ in range(2)]
    assert [next(handle.events()) for handle in waiting] == [Queued(0, 1), Queued(0, 2)]
    with pytest.raises(QueueFull, match="2 requests are waiting") as caught:
        engine.submit(request())
    assert caught.value.retry_after >= 1
    status = engine.describe()
    assert (status.queued, status.running, status.queue_limit) == (2, 1, 2)
    running.cancel()
    assert all(pixels(handle) for handle in waiting)


def test_weights_that_overflow_fail_their_request_alone(
    engine: LocalEngine, catalog: Catalog
) -> None:
    """No black picture comes out of a NaN."""
    publish_base(catalog, "sick")
    path = catalog.get("sick").folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_out.bias"] = torch.full_like(weights["conv_out.bias"], float("nan"))
    save_file(weights, path, metadata={"format": "pt"})
    sick, well = engine.submit(request(model="sick")), engine.submit(request())
    with pytest.raises(GenerationFailed, match="left the range of float32") as caught:
        sick.result(WAIT)
    assert caught.value.code == "not_finite"
    assert pixels(well)


def test_a_model_that_cannot_be_loaded_fails_its_request_alone(
    engine: LocalEngine, catalog: Catalog
) -> None:
    (catalog.get("rex").folder / ADAPTER_FILE).write_bytes(b"no")
    with pytest.raises(GenerationFailed) as caught:
        engine.submit(request(model="rex")).result(WAIT)
    assert caught.value.code == "invalid_model"
    assert pixels(engine.submit(request()))


def test_an_unexpected_error_fails_its_request_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("/secret/path")

    with monkeypatch.context() as patch:
        patch.setattr("models.engine.generate_image", broken)
        handle = engine.submit(request())
        with pytest.raises(GenerationFailed, match=r"unexpected ZeroDivisionError$"):
            handle.result(WAIT)
    assert pixels(engine.submit(request()))


def test_a_model_published_again_is_loaded_again(engine: LocalEngine, catalog: Catalog) -> None:
    before = pixels(engine.submit(request()))
    publish_base(catalog, "tiny", seed=5)
    assert pixels(engine.submit(request())) != before


def test_an_adapter_follows_its_base_when_that_is_published_again(
    engine: LocalEngine, catalog: Catalog
) -> None:
    before = pixels(engine.submit(request(model="rex")))
    publish_base(catalog, "tiny", seed=5)
    assert pixels(engine.submit(request(model="rex"))) != before


def test_only_the_last_used_models_stay_in_memory(engine: LocalEngine, catalog: Catalog) -> None:
    publish_adapter(catalog, "max")
    for model in ("tiny", "rex", "tiny", "max"):
        engine.submit(request(model=model)).result(WAIT)
    assert set(engine.describe().resident) == {"tiny", "max"}


def test_the_engine_is_ready_once_a_model_is_loaded(engine: LocalEngine) -> None:
    assert not engine.describe().ready
    engine.warm_up("no-such-model")
    engine.warm_up("rex")
    engine.submit(request(model="rex")).result(WAIT)
    status = engine.describe()
    assert status.ready
    assert status.resident == ("rex",)
    assert (status.device, status.dtype) == ("cpu", "float32")


def test_closing_ends_what_runs_and_fails_what_waits(engine: LocalEngine) -> None:
    running, waiting = engine.submit(endless()), engine.submit(request())
    until_running(running)
    engine.close(WAIT)
    last = list(waiting.events())[-1]
    assert isinstance(last, Failed)
    assert last.code == EngineClosed.code
    with pytest.raises(GenerationCancelled):
        running.result(WAIT)
    with pytest.raises(EngineClosed):
        engine.submit(request())
    assert not engine.describe().ready


def test_many_threads_may_submit_at_once(engine: LocalEngine) -> None:
    results: list[list[bytes]] = []

    def ask() -> None:
        try:
            results.append(pixels(engine.submit(request())))
        except QueueFull:
            results.append([])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(results) == 8
    assert len({picture for made in results for picture in made}) == 1
