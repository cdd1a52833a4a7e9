"""DreamBooth (Ruiz et al. 2022, arXiv 2208.12242): teach a base some breeds, or one dog.

`python -m training dreambooth --photos my_photos --name rex`
"""

import math
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from models.catalog import Catalog
from models.errors import is_out_of_memory
from training.checkpoints import averaged
from training.dreambooth_config import DreamBoothConfig
from training.errors import Diverged, NothingLearned, OutOfMemory, Stopped
from training.estimate import estimate_of
from training.preparation import prepare
from training.publishing import check_names, publish, published_from
from training.report import Report, say
from training.resuming import Checkpoints, Progress
from training.stopping import StopRequest, stop_requests
from training.watch import Watch

__all__ = ["DreamBoothConfig", "dreambooth"]


def dreambooth(
    config: DreamBoothConfig,
    catalog: Catalog,
    work: Path,
    report: Report | None = None,
    folder: Path | None = None,
) -> Path:
    """Fine-tune `config.base` on `config.dataset` and publish the result; return its folder.

    Goes on from the checkpoint that a killed run of the same settings left in `work`. Raises
    ConfigError or ModelsError for what a user can mend, TrainingError for a run that cannot go on
    (Stopped after a signal); publishes whole models only. Of the processes that `accelerate launch`
    started, each computes its share of every step; the first one watches, saves and publishes.

    With a `folder` of its own, where checkpoints and samples go, the run is done where a model of
    its name came from that very folder: it was killed after publishing.
    """
    report = report or Report()
    if folder is not None and (published := published_from(folder, config, catalog)):
        report.event("succeeded", model=config.name)
        return published
    check_names(config, catalog)
    with stop_requests() as stop:
        place = folder or work / "runs" / config.name
        run = prepare(config, catalog, work, place)
        config = run.config
        weights, optimizer, accelerator = run.weights, run.optimizer, run.step.accelerator
        is_main = accelerator.is_main_process
        with accelerator.main_process_first():
            checkpoints = Checkpoints(place, run)
            if report.wanted and checkpoints.empty and accelerator.num_processes == 1:
                report.event("estimate", **estimate_of(run))
            progress = checkpoints.resume() or Progress(micro_batch=config.batch_size)
        first = stop.saved = progress.step
        if is_main:
            watch = Watch(run, place, work / "cache", report, checkpoints)
            watch.begin(progress)
            report.event("running", step=first, steps=config.steps)

        told: int | None = None  # the signal, once every process knows of it
        stop.waits = True
        with tqdm(
            desc=config.name, total=config.steps, initial=first, unit="step", disable=not is_main
        ) as bar:
            while not progress.done and told is None:
                batch = run.gathered.draws(run.generator)
                while True:
                    try:
                        loss = run.step.gradients(batch, progress.micro_batch).item()
                        break
                    except (RuntimeError, MemoryError) as error:
                        if not is_out_of_memory(error) or progress.step > first:
                            raise
                        optimizer.zero_grad(set_to_none=True)
                        smaller_batch(progress, config.rows)
                if not math.isfinite(loss):
                    raise Diverged(
                        f"the loss is {loss} at step {progress.step + 1}: lower learning_rate "
                        f"({config.learning_rate}) or set mixed_precision ({run.precision}) to 'no'"
                    )
                accelerator.clip_grad_norm_(weights.parameters, config.max_grad_norm)
                optimizer.step()
                run.schedule.step()
                optimizer.zero_grad(set_to_none=True)
                if run.ema is not None:
                    run.ema.step(weights.parameters)

                progress.step += 1
                progress.losses.append(loss)
                progress.done = progress.step == config.steps
                if is_main:
                    watch.step(progress, bar)
                    with averaged(run.ema, weights.parameters) if run.ema else nullcontext():
                        if due(progress, config.validate_every):
                            watch.validate(progress)
                        if due(progress, config.sample_every):
                            watch.sample(progress)
                    if due(progress, config.checkpoint_every):
                        checkpoints.save(progress)
                        stop.saved = progress.step
                told = agree(accelerator, progress, stop)
        if is_main and (config.checkpoint_every or told is not None):
            checkpoints.save(progress)
            stop.saved = progress.step
        if told is not None:
            raise Stopped(told, progress.step)
        stop.waits = False
        if not is_main:
            accelerator.wait_for_everyone()
            return catalog.get(config.name).folder

        report.event("evaluating")
        if run.ema is not None:
            run.ema.copy_to(weights.parameters)
        if progress.best_step is not None:
            checkpoints.load_best(progress.best_step)
        change = weights.change(config, catalog)
        if change == 0:
            raise NothingLearned(
                f"{progress.step} steps changed no weight: raise learning_rate "
                f"({config.learning_rate}) or steps"
            )
        origin = None if folder is None else folder.name
        published = publish(run, catalog, progress, change, watch.grids(progress), origin)
    checkpoints.remove()
    watch.close(progress, change)
    report.event("succeeded", model=config.name)
    accelerator.wait_for_everyone()
    return published


def agree(accelerator: Accelerator, progress: Progress, stop: StopRequest) -> int | None:
    """All processes are done when the first one is, and stop when one was told to: the signal.

    Without this one of them would wait for ever for the gradients of another that has left.
    """
    if accelerator.num_processes > 1:
        flags = torch.tensor([progress.done, stop.signal or 0], device=accelerator.device)
        done, signal = accelerator.reduce(flags, "max").tolist()
        progress.done = bool(done)
        return signal or None
    return stop.signal


def due(progress: Progress, every: int) -> bool:
    """Whether something that is done `every` so many steps (0: never) is done after this one."""
    return every > 0 and (progress.step % every == 0 or progress.done)


def smaller_batch(progress: Progress, rows: int) -> None:
    """Halve the micro-batch of a step of `rows`, which takes as many more of them; say so."""
    if progress.micro_batch == 1:
        raise OutOfMemory(
            "out of memory with one photo at a time: set gradient_checkpointing, lower resolution "
            "or rank, or take method = 'lora'"
        )
    progress.micro_batch = -(-progress.micro_batch // 2)
    say(
        f"out of memory: going on with batch_size {progress.micro_batch} and "
        f"gradient_accumulation {-(-rows // progress.micro_batch)}, {rows} rows a step as before"
    )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
