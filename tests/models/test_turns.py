from collections import Counter
from dataclasses import dataclass

from models.turns import BatchLimits, choose


@dataclass
class Fake:
    """The part of a sample that the choice looks at."""

    client: str = "a"
    group: str = "g"
    rows: int = 2
    pixels: int = 100
    last_turn: float = 0.0


def turn(samples, served=None, rows=4, pixels=10**9, now=0.0, patience=5.0):
    return choose(samples, served or {}, BatchLimits(rows, pixels), now, patience)


def test_one_client_is_served_oldest_first() -> None:
    samples = [Fake() for _ in range(4)]
    assert turn(samples) == samples[:2]


def test_clients_take_turns_however_many_samples_they_have() -> None:
    samples = [*(Fake("greedy") for _ in range(9)), Fake("b"), Fake("c")]
    assert Counter(sample.client for sample in turn(samples, rows=6)) == {
        "greedy": 1,
        "b": 1,
        "c": 1,
    }


def test_who_was_served_least_goes_first() -> None:
    samples = [Fake("a"), Fake("b")]
    assert turn(samples, {"a": 500.0, "b": 100.0}, rows=2) == [samples[1]]


def test_a_batch_holds_one_group() -> None:
    samples = [Fake(group="small"), Fake(group="large"), Fake(group="small")]
    assert turn(samples) == [samples[0], samples[2]]


def test_a_sample_without_guidance_fills_the_last_row() -> None:
    samples = [Fake(rows=2), Fake(rows=2), Fake(rows=1)]
    assert turn(samples, rows=3) == [samples[0], samples[2]]


def test_pixels_are_bounded_over_all_rows() -> None:
    assert len(turn([Fake(pixels=100) for _ in range(8)], rows=99, pixels=700)) == 3


def test_a_sample_above_every_limit_runs_alone() -> None:
    samples = [Fake(pixels=10**6), Fake()]
    assert turn(samples, rows=1, pixels=10) == [samples[0]]


def test_who_waits_too_long_goes_first_and_decides_the_group() -> None:
    samples = [Fake("a", last_turn=9.0), Fake("b", "rare", last_turn=2.0)]
    assert turn(samples, {"b": 10**9}, now=10.0) == [samples[1]]
    assert turn(samples, {"b": 10**9}, now=6.0) == [samples[0]]


def test_nothing_waits_nothing_is_chosen() -> None:
    assert turn([]) == []
