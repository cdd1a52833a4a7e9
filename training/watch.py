"""Watches a run: curves, samples and scores, for a person, for TensorBoard and for a program."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.caching import cached
from training.preparation import Run
from training.report import Report, memory_used, say
from training.resuming import Checkpoints, Progress
from training.sampling import draw_samples, sheet
from training.validation import Scorer, dvar


class Watch:
    """What is measured and shown of one run."""

    def __init__(
        self, run: Run, folder: Path, cache: Path, report: Report, checkpoints: Checkpoints
    ) -> None:
        """Draws what the base makes of the prompts, as long as the weights are the base's."""
        self._run = run
        self._folder = folder
        self._report = report
        self._checkpoints = checkpoints
        self._scorer: Scorer | None = None
        self._base_rows: Tensor | None = None
        if run.config.sample_images:
            parts = {"run": run.fingerprint}
            self._base_rows = cached(
                cache, "base_samples", parts, lambda: {"rows": draw_samples(run)}
            )["rows"]
            self._scorer = Scorer(run.gathered.photos, self._base_rows[-1])

    def begin(self, progress: Progress) -> None:
        """Start the curves at `progress`, or go on with them."""
        run, step = self._run, progress.step
        if step == 0:
            shutil.rmtree(self._folder / "samples", ignore_errors=True)
            shutil.rmtree(self._folder / "tensorboard", ignore_errors=True)
        self._writer = SummaryWriter(self._folder / "tensorboard", purge_step=step + 1)
        self._started, self._first = time.monotonic(), step
        count = sum(p.numel() for p in run.weights.parameters)
        say(f"training {count:,} parameters on {run.device} ({run.precision})")
        if step == 0 and run.config.validate_every:
            say(f"the validation loss is that of {run.gathered.validated_on}")
            self.validate(progress)
        if step == 0 and self._scorer is not None and self._base_rows is not None:
            self._score(progress, self._base_rows)

    def step(self, progress: Progress, bar: "tqdm[Any]") -> None:
        """Show one step."""
        run, steps = self._run, self._run.config.steps
        recent = progress.losses[-50:]
        loss, memory = sum(recent) / len(recent), memory_used(run.device)
        taken = progress.step - self._first
        left = (time.monotonic() - self._started) / taken * (steps - progress.step)
        bar.update()
        bar.set_postfix(loss=f"{loss:.4f}", memory=f"{memory / 2**30:.1f}G", refresh=False)
        self._report.step(progress.step, steps, loss, left, memory)
        self._writer.add_scalar("loss", progress.losses[-1], progress.step)
        self._writer.add_scalar("learning_rate", run.schedule.get_last_lr()[0], progress.step)

    def validate(self, progress: Progress) -> None:
        """Measure the loss on the fixed batch; enough of them alike end the run."""
        batch, config = self._run.gathered.validation, self._run.config
        assert batch is not None
        loss = self._run.step.validation_loss(batch)
        progress.validation.append(loss)
        self._report.event("validation", step=progress.step, loss=round(loss, 6))
        self._writer.add_scalar("validation_loss", loss, progress.step)
        ratio = dvar(progress.validation[1:])
        if ratio < config.early_stop and not progress.done:
            progress.done = True
            say(f"the validation loss has settled (DVAR {ratio:.2f}): done")

    def sample(self, progress: Progress) -> None:
        """Draw a grid; keep the weights where it scores best."""
        if self._scorer is None:
            return
        total = self._score(progress, draw_samples(self._run))
        earlier = progress.best_step and progress.scores[progress.best_step]["total"]
        if earlier is None or total > earlier:
            progress.best_step = progress.step
            self._checkpoints.save_best(progress.step)

    def grids(self, progress: Progress) -> dict[str, Image.Image]:
        """The grids before and after, by the names that they are published under."""
        if self._base_rows is None:
            return {}
        path = self._path(progress.best_step or progress.step)
        before = sheet(self._base_rows)
        after = Image.open(path) if path.exists() else sheet(draw_samples(self._run))
        if after.tobytes() == before.tobytes():
            say("warning: the samples are what they were before training: too few steps?")
        return {"preview.png": after, "preview_before.png": before}

    def close(self, progress: Progress, change: float) -> None:
        """Say how it went."""
        self._writer.close()
        chosen = progress.best_step or progress.step
        line = f"{progress.step} steps changed the weights by {100 * change:.3g} % of their norm"
        if progress.best_step is not None:
            then, now = progress.scores[0], progress.scores[chosen]
            line += f"; step {chosen} is published: " + ", ".join(
                f"{key.replace('_', ' ')} {then[key]:.3f} to {now[key]:.3f}"
                for key in ("subject_similarity", "class_drift", "copying")
            )
        say(line)

    def _score(self, progress: Progress, rows: Tensor) -> float:
        """Write the grid and the score of samples `[P, n, 3, H, W]` down; the score."""
        assert self._scorer is not None
        path = self._path(progress.step)
        partial = path.with_name(f".{path.name}")
        sheet(rows).save(partial, "PNG")
        partial.replace(path)  # who looks on sees whole pictures
        self._report.event("sample", step=progress.step, path=str(path))
        score = self._scorer(list(rows[:-1]), rows[-1])
        values = asdict(score) | {"total": score.total}
        progress.scores[progress.step] = values
        for name, value in values.items():
            self._writer.add_scalar(f"score/{name}", value, progress.step)
        self._writer.add_images("samples", rows.flatten(0, 1), progress.step)
        return score.total

    def _path(self, step: int) -> Path:
        folder = self._folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"step-{step:06d}.png"
