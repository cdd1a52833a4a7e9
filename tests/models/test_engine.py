import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from models.catalog import Catalog
from models.engine import LocalEngine
from models.errors import EngineClosed, GenerationCancelled, GenerationFailed, QueueFull
from models.manifest import ADAPTER_FILE, UPSCALER_FOLDER
from models.pipeline import load_pipeline
from models.requests import (
    Cancelled,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Handle,
    Limits,
    Preview,
    Queued,
    Started,
    Step,
)
from models.sample import Sample
from tests.tiny import add_upscaler, publish_base

WAIT = 60.0
LIMITS = Limits(max_steps=900, max_images=50)


@pytest.fixture
def engine(catalog: Catalog) -> Iterator[LocalEngine]:
    engine = LocalEngine(catalog, "cpu", "fp32", limits=LIMITS, threads=1)
    yield engine
    engine.close(timeout=0)


@pytest.fixture
def narrow(catalog: Catalog) -> Iterator[LocalEngine]:
    """One picture a tick, so that what comes later waits; two requests may wait."""
    engine = LocalEngine(
        catalog, "cpu", "fp32", queue_limit=2, max_batch=2, limits=LIMITS, threads=1
    )
    yield engine
    engine.close(timeout=0)


def request(prompt: str = "a dog", seeds: tuple[int, ...] = (1,), model: str = "tiny", steps=2):
    return GenerationRequest(prompt, seeds, model, steps=steps)


def endless(model: str = "tiny") -> GenerationRequest:
    return request("a dog that never comes", tuple(range(50)), model, steps=900)


def list_so_far(handle: Handle) -> list[Event]:
    events: list[Event] = []
    with suppress(TimeoutError):
        for event in handle.events(timeout=0):
            events.append(event)
    return events


def until_running(handle: Handle) -> None:
    next(event for event in handle.events(timeout=WAIT) if isinstance(event, Step))


def pixels(handle: Handle) -> list[bytes]:
    return [made.image.tobytes() for made in handle.result(WAIT).images]


def arrays(handle: Handle) -> list[np.ndarray]:
    return [np.asarray(made.image, dtype=int) for made in handle.result(WAIT).images]


def test_a_requests_events_come_in_order_and_replay(engine: LocalEngine) -> None:
    handle = engine.submit(request(seeds=(1, 2), steps=3))
    kinds = [type(event) for event in handle.events(timeout=WAIT)]
    assert kinds == [Queued, Started, *[Step] * 6, Finished]
    replayed = list(handle.events(after=5))
    assert [event.id for event in replayed] == [6, 7, 8]
    assert [event.step for event in handle.events() if isinstance(event, Step)] == [*range(1, 7)]


def test_waiting_for_an_event_ends_in_time(narrow: LocalEngine) -> None:
    until_running(narrow.submit(endless()))
    waiting = narrow.submit(request())
    with pytest.raises(TimeoutError):
        list(waiting.events(after=0, timeout=0.05))
    with pytest.raises(TimeoutError):
        waiting.result(timeout=0.05)


def test_upscaled_pictures_come_of_the_same_latents_by_the_bases_upscaler(
    engine: LocalEngine, catalog: Catalog
) -> None:
    upscaler = add_upscaler(catalog)
    plain, large = (
        engine.submit(replace(request(seeds=(7, 8), steps=6), upscale=factor)) for factor in (1, 2)
    )
    drawn = arrays(large)  # loaded by now: two threads at once cannot load models
    pipeline = load_pipeline("tiny", catalog, torch.device("cpu"), torch.float32)
    pipeline.vae = upscaler
    noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(7))
    [wanted] = pipeline(
        "a dog", num_inference_steps=6, guidance_scale=4.0, latents=noise, height=64, width=64
    ).images
    assert [made.shape for made in arrays(plain)] == [(32, 32, 3)] * 2
    assert [made.shape for made in drawn] == [(64, 64, 3)] * 2
    assert np.abs(drawn[0] - np.asarray(wanted, dtype=int)).max() <= 1
    assert large.result().request.upscale == 2


def test_a_broken_upscaler_is_named(engine: LocalEngine, catalog: Catalog) -> None:
    add_upscaler(catalog)
    folder = catalog.get("tiny").folder / UPSCALER_FOLDER
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(GenerationFailed, match="tiny/upscaler: "):
        engine.submit(request()).result(WAIT)


def test_the_same_seed_gives_the_same_picture_alone_or_in_company(engine: LocalEngine) -> None:
    alone = arrays(engine.submit(request(seeds=(7,), steps=6)))[0]
    others = [
        engine.submit(GenerationRequest("un gato", (n,), "rex", steps=9, guidance_scale=n / 2))
        for n in range(5)
    ]
    company = arrays(engine.submit(request(seeds=(6, 7), steps=6)))
    for other in others:
        other.result(WAIT)
    assert np.abs(alone - company[1]).max() <= 1
    assert np.abs(company[0] - company[1]).max() > 10


def test_the_same_request_twice_gives_the_same_bytes(engine: LocalEngine) -> None:
    assert pixels(engine.submit(request())) == pixels(engine.submit(request()))


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


def test_a_short_request_does_not_wait_for_a_long_one(engine: LocalEngine) -> None:
    long = engine.submit(endless())
    until_running(long)
    assert pixels(engine.submit(request()))
    assert not isinstance(list_so_far(long)[-1], Finished)


def test_a_client_of_many_requests_does_not_hold_up_another(narrow: LocalEngine) -> None:
    greedy = narrow.submit(endless())
    until_running(greedy)
    modest = narrow.submit(GenerationRequest("a dog", (1,), "tiny", steps=2, client="modest"))
    modest.result(WAIT)
    assert not isinstance(list_so_far(greedy)[-1], Finished)


def test_one_client_is_served_in_the_order_it_asked(narrow: LocalEngine) -> None:
    first, second = narrow.submit(request(steps=30)), narrow.submit(request())
    second.result(WAIT)
    assert isinstance(list_so_far(first)[-1], Finished)


def test_cancel_ends_a_running_request_between_two_steps(engine: LocalEngine) -> None:
    handle = engine.submit(endless())
    until_running(handle)
    handle.cancel()
    with pytest.raises(GenerationCancelled):
        handle.result(WAIT)
    assert isinstance(list(handle.events())[-1], Cancelled)
    assert pixels(engine.submit(request()))


def test_cancel_ends_a_waiting_request_at_once(narrow: LocalEngine) -> None:
    running, waiting = narrow.submit(endless()), narrow.submit(request())
    until_running(running)
    waiting.cancel()
    with pytest.raises(GenerationCancelled):
        waiting.result(timeout=1)
    assert narrow.describe().queued == 0


def test_cancel_after_the_end_changes_nothing(engine: LocalEngine) -> None:
    handle = engine.submit(request())
    handle.result(WAIT)
    handle.cancel()
    assert handle.result().images[0].seed == 1


def test_a_full_queue_refuses_and_says_when_to_come_again(narrow: LocalEngine) -> None:
    running = narrow.submit(endless())
    until_running(running)
    waiting = [narrow.submit(request()) for _ in range(2)]
    assert [next(handle.events()) for handle in waiting] == [Queued(0, 1), Queued(0, 2)]
    with pytest.raises(QueueFull, match="2 requests are waiting") as caught:
        narrow.submit(request())
    assert caught.value.retry_after >= 1
    status = narrow.describe()
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
    with pytest.raises(GenerationFailed, match="left the range") as caught:
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


def test_an_error_in_one_sample_fails_its_request_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Sample.advance

    def broken(sample: Sample, predicted: torch.Tensor) -> None:
        if sample.request.prompt == "bad":
            raise ZeroDivisionError("/secret/path")
        advance(sample, predicted)

    monkeypatch.setattr(Sample, "advance", broken)
    bad, good = engine.submit(request("bad", steps=5)), engine.submit(request(steps=5))
    with pytest.raises(GenerationFailed, match=r"unexpected ZeroDivisionError$"):
        bad.result(WAIT)
    assert pixels(good)


def test_a_sample_that_breaks_the_call_does_not_take_its_neighbours(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_input = Sample.model_input

    def broken(sample: Sample) -> torch.Tensor:
        wide = 2 if sample.request.prompt == "bad" else 1
        return model_input(sample).repeat(1, wide, 1, 1)

    monkeypatch.setattr(Sample, "model_input", broken)
    bad, good = engine.submit(request("bad", steps=5)), engine.submit(request(steps=5))
    with pytest.raises(GenerationFailed, match="unexpected RuntimeError"):
        bad.result(WAIT)
    assert pixels(good)


def test_out_of_memory_halves_the_batch_and_goes_on(
    engine: LocalEngine, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = arrays(engine.submit(request(seeds=(1, 2, 3, 4), steps=3)))
    forward = UNet2DConditionModel.forward
    sizes = []

    def small(unet: UNet2DConditionModel, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(sample))
        if len(sample) > 3:
            raise torch.OutOfMemoryError("injected")
        return forward(unet, sample, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
    handle = engine.submit(request(seeds=(1, 2, 3, 4), steps=3))
    for before, after in zip(expected, arrays(handle), strict=True):
        assert np.abs(before - after).max() <= 1
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[7:]) <= 4, "the batch grew again at once"


def test_out_of_memory_with_one_row_is_the_requests_failure(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "forward", none_left)
        with pytest.raises(GenerationFailed, match="smaller width") as caught:
            engine.submit(request()).result(WAIT)
    assert caught.value.code == "out_of_memory"
    assert pixels(engine.submit(request()))


def test_a_dead_engine_thread_is_replaced(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = engine.submit(endless())
    until_running(running)
    with monkeypatch.context() as patch:
        patch.setattr("models.engine.choose", lambda *_: 1 / 0)
        with pytest.raises(GenerationFailed, match="ZeroDivisionError") as caught:
            running.result(WAIT)
    assert caught.value.code == "engine_failed"
    assert pixels(engine.submit(request()))
    assert engine.describe().restarts >= 1


def test_a_request_that_is_overdue_fails_with_its_own_code(engine: LocalEngine) -> None:
    asked = replace(endless(), timeout=0.3)
    with pytest.raises(GenerationFailed, match=r"not done within 0.3 seconds") as caught:
        engine.submit(asked).result(WAIT)
    assert caught.value.code == "timeout"


def test_previews_come_in_the_pictures_size(engine: LocalEngine) -> None:
    handle = engine.submit(replace(request(seeds=(1, 2), steps=5), preview_every=2))
    previews = [event for event in handle.events(timeout=WAIT) if isinstance(event, Preview)]
    assert sorted((preview.index, preview.step) for preview in previews) == [
        (0, 2),
        (0, 4),
        (1, 2),
        (1, 4),
    ]
    assert {preview.image.size for preview in previews} == {(32, 32)}


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


def test_the_engine_is_ready_once_a_model_is_loaded(engine: LocalEngine) -> None:
    assert not engine.describe().ready
    engine.warm_up("no-such-model")
    engine.warm_up("rex")
    engine.submit(request(model="rex")).result(WAIT)
    status = engine.describe()
    assert status.ready
    assert status.resident == ("tiny", "rex")
    assert (status.device, status.dtype) == ("cpu", "float32")


def test_closing_finishes_what_was_submitted(engine: LocalEngine) -> None:
    handles = [engine.submit(request(steps=5)) for _ in range(3)]
    engine.close(WAIT)
    assert all(pixels(handle) for handle in handles)
    with pytest.raises(EngineClosed):
        engine.submit(request())
    assert not engine.describe().ready


def test_closing_hands_back_what_takes_too_long(narrow: LocalEngine) -> None:
    running, waiting = narrow.submit(endless()), narrow.submit(endless())
    until_running(running)
    before = set(threading.enumerate())
    narrow.close(timeout=0.1)
    for handle in (running, waiting):
        last = list(handle.events())[-1]
        assert isinstance(last, Failed)
        assert last.code == EngineClosed.code
    ended = {thread.name for thread in before - set(threading.enumerate())}
    assert ended == {"dogbooth-engine", "dogbooth-loader_0"}


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
