"""What an engine counts of its own work: plain numbers that only grow, for whoever watches it."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)
STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Distribution:
    """How often a value fell into each interval that `bounds` end, and the sum of all values."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    """One for each bound, itself included, and one for what lies above the last."""
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class Counters:
    """One engine's work since it was made; written by its thread alone."""

    batch_rows: Distribution = field(default_factory=lambda: Distribution(ROWS))
    """Rows of the U-Net's batch, one value a denoising step."""
    step_seconds: Distribution = field(default_factory=lambda: Distribution(STEP_SECONDS))
    """Time of a denoising step of one batch, the schedulers' work included."""
    images: int = 0
    """Pictures decoded."""
    loads: int = 0
    """Times that weights were read into memory, a base and its adapter counted apart."""
    failed_loads: int = 0
    ended: Counter[str] = field(default_factory=lambda: Counter(finished=0, failed=0, cancelled=0))
    """Requests by how they ended."""

    def count_step(self, rows: int, seconds: float) -> None:
        """Count one denoising step of one batch."""
        self.batch_rows.observe(rows)
        self.step_seconds.observe(seconds)
