"""Checkpoints of a DreamBooth run: folders that a run goes on from as if it had never stopped."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.checkpoints import load_state, save_state, whole_folder
from training.preparation import Run
from training.report import say

STATE = "state.pt"


@dataclass
class Progress:
    """How far a run is, and what it has measured."""

    micro_batch: int
    """Rows that go through the U-Net together; halved when memory runs out."""
    step: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    """The losses on the fixed batch, the first before training."""
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """What the samples of a step were worth."""
    best_step: int | None = None
    done: bool = False
    """Whether all steps are taken, or enough of them."""


class Checkpoints:
    """The checkpoints of one run, `step-000100/` and so on, a bounded number of them.

    Each holds the trained weights as diffusers loads them, and `state.pt` with everything else:
    optimizer, schedule, average, random generator, loss scale, progress.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        self._folder = folder / "checkpoints"
        self._best = folder / "best"
        self._run = run
        if not run.step.accelerator.is_main_process:
            return
        for part in (self._folder, self._best):
            part.mkdir(parents=True, exist_ok=True)
            for leftover in part.glob(".*"):  # of a process that was killed while it wrote
                shutil.rmtree(leftover)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to go on from."""
        return not any(self._folder.iterdir())

    def resume(self) -> Progress | None:
        """Put the newest checkpoint back; None where there is none of this very run.

        Checkpoints of other settings, photos or weights are removed, which is said.
        """
        folders = sorted(self._folder.iterdir())
        if not folders:
            return None
        state = load_state(folders[-1] / STATE)
        if state is None or state["fingerprint"] != self._run.fingerprint:
            say("checkpoints of other settings, photos or base: starting anew")
            self.remove()
            return None
        run = self._run
        run.weights.load(folders[-1])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        run.generator.set_state(state["generator"])
        progress = Progress(**state["progress"])
        say(f"going on from step {progress.step}")
        return progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint and remove the oldest beyond `checkpoints_kept`."""
        path = self._folder / f"step-{progress.step:06d}"
        if path.exists():
            return
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        with whole_folder(path) as folder:
            self._run.weights.save(folder)
            state = {
                "fingerprint": self._run.fingerprint,
                "progress": asdict(progress),
                "generator": self._run.generator.get_state(),
                **parts,
            }
            save_state(folder / STATE, state)
        for old in sorted(self._folder.iterdir())[: -self._run.config.checkpoints_kept]:
            shutil.rmtree(old)

    def save_best(self, step: int) -> None:
        """Keep the weights of `step` as the best so far."""
        path = self._best / f"step-{step:06d}"
        if not path.exists():
            with whole_folder(path) as folder:
                self._run.weights.save(folder)
        for other in self._best.iterdir():
            if other != path:
                shutil.rmtree(other)

    def load_best(self, step: int) -> None:
        """Put the weights of `save_best(step)` back."""
        self._run.weights.load(self._best / f"step-{step:06d}")

    def remove(self) -> None:
        """Remove every checkpoint."""
        for part in (self._folder, self._best):
            for folder in part.iterdir():
                shutil.rmtree(folder)

    def _parts(self) -> dict[str, Any]:
        run = self._run
        parts = {"optimizer": run.optimizer, "schedule": run.schedule, "ema": run.ema}
        parts["scaler"] = run.step.accelerator.scaler
        return {name: part for name, part in parts.items() if part is not None}
