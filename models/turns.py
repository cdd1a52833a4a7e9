"""Whose turn it is: chooses what a tick of the engine works on, fairly over clients."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """What the choice needs to know of a sample."""

    client: str
    group: Hashable
    """Samples of one group can share a U-Net call."""
    rows: int
    """Rows of the batch that it takes: two with guidance, else one."""
    pixels: int
    """Of one row."""
    last_turn: float
    """Seconds on the engine's clock: its last step, or when it came."""


S = TypeVar("S", bound=Waiting)


@dataclass(frozen=True)
class BatchLimits:
    """How much one U-Net call may hold; a sample beyond both limits still runs, alone."""

    rows: int = 32
    pixels: int = 4 * 1024 * 1024
    """Over all rows: 16 rows of 512x512."""


def choose(
    samples: Sequence[S],
    served: Mapping[str, float],
    limits: BatchLimits,
    now: float,
    patience: float,
) -> list[S]:
    """The samples of the next U-Net call, from `samples` in the order they came.

    `served` says how many pixels each client was given so far: the least served client takes its
    oldest sample first, then whoever is least served then. The first choice decides the group. A
    sample that has waited for more than `patience` seconds is the first choice.
    """
    queues: dict[str, list[S]] = {}
    for sample in samples:
        queues.setdefault(sample.client, []).append(sample)
    given = {client: served.get(client, 0.0) for client in queues}
    chosen: list[S] = []
    rows = pixels = 0

    def take(sample: S) -> None:
        nonlocal rows, pixels
        chosen.append(sample)
        rows += sample.rows
        pixels += sample.rows * sample.pixels
        given[sample.client] += sample.rows * sample.pixels

    longest = min(samples, key=lambda sample: sample.last_turn, default=None)
    if longest is not None and now - longest.last_turn > patience:
        queues[longest.client].remove(longest)
        take(longest)
    while queues:
        client = min(queues, key=lambda name: given[name])
        if not queues[client]:
            del queues[client]
            continue
        sample = queues[client].pop(0)
        fits = (
            rows + sample.rows <= limits.rows
            and pixels + sample.rows * sample.pixels <= limits.pixels
        )
        if not chosen or (fits and sample.group == chosen[0].group):
            take(sample)
    return chosen
