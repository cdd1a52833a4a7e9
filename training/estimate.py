"""What a run would take before it is started: parameters, memory by part, time."""

import contextlib
import datetime
import time
import weakref
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from models.catalog import Catalog
from training.dreambooth_config import DreamBoothConfig
from training.material import Batch
from training.preparation import Run, prepare
from training.sampling import STEPS as SAMPLE_STEPS
from training.step import Step

OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2, "prodigy": 16, "adafactor": 0}
"""Bytes of optimizer state a trained parameter (Adafactor keeps rows and columns only)."""


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors made within the block held at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def estimate_of(run: Run) -> dict[str, Any]:
    """What `run`, prepared and not begun, will train and take: bytes, whether they are there,
    seconds.

    Its weights and its random numbers stay what they are. A step is timed by its gradients, which
    are nearly all of it; a row of a sample's denoising counts as a third of a row of a step, as
    it goes forward only. Without the room for it no step is tried: the seconds are None.
    """
    config = run.config
    batch = run.gathered.draws(torch.Generator().manual_seed(config.seed))
    with torch.random.fork_rng(devices=[]):
        parts = memory_by_part(config, run, run.step, batch)
        total = sum(parts.values())
        trained = sum(p.numel() for p in run.weights.parameters)
        found = {"parameters": trained, "memory_bytes": total}
        found["fits"] = total <= memory_there(run.device)
        if not found["fits"]:
            return found | {"step_seconds": None, "seconds": None}
        step = min(time_gradients(run, batch) for _ in range(2))
    grids = 1 + (config.steps // config.sample_every if config.sample_every else 0)
    rows = 2 * SAMPLE_STEPS * config.sample_images * len(run.prompts) * grids
    seconds = step * (config.steps + rows / (3 * len(batch.latents)))
    return found | {"step_seconds": round(step, 4), "seconds": round(seconds, 1)}


def time_gradients(run: Run, batch: Batch) -> float:
    """Seconds of one step's gradients, which are thrown away."""
    started = time.perf_counter()
    run.step.gradients(batch, run.config.batch_size).item()
    seconds = time.perf_counter() - started
    run.optimizer.zero_grad(set_to_none=True)
    return seconds


def estimate(config: DreamBoothConfig, catalog: Catalog) -> str:
    """Lines that say what a run of `config` trains, holds in memory and takes in time.

    Activations are those of a pass over fake tensors, which have shapes and no memory; the time is
    that of two real steps, which are taken only where the sum fits. No class picture is drawn.
    """
    undrawn = "none" if config.prior in ("generated", "breeds", "photos") else config.prior
    bare = replace(
        config,
        prior=undrawn,
        class_breeds=(),
        validate_every=0,
        sample_images=0,
        crops_per_photo=1,
        flips=False,
    )
    with TemporaryDirectory() as work:
        run = prepare(bare, catalog, Path(work))
        draws = replace(run.gathered.draws, buckets=())
        if config.has_prior and undrawn == "none":
            stand_in = replace(
                draws.instance, texts=[[draws.empty_text]] * len(draws.instance.texts)
            )
            draws = replace(draws, prior=stand_in)
        step, batch = replace(run.step, config=config), draws(run.generator)
        trained = sum(p.numel() for p in run.weights.parameters)
        everything = sum(p.numel() for model in run.weights.models for p in model.parameters())
        parts = memory_by_part(config, run, step, batch)
        total, there = sum(parts.values()), memory_there(run.device)
        lines = [f"{'parameters trained':<20}{trained:,} of {everything:,}"]
        lines += [f"{name:<20}{size / 2**30:.2f} GiB" for name, size in parts.items()]
        fits = "fits" if total <= there else "does not fit"
        lines.append(
            f"{'sum':<20}{total / 2**30:.2f} GiB: {fits} {run.device} ({there / 2**30:.1f} GiB)"
        )
        if total <= there:
            seconds = min(time_step(run, step, batch) for _ in range(2))
            whole = datetime.timedelta(seconds=round(seconds * config.steps))
            lines.append(f"{'time':<20}{seconds:.3g} s a step, {whole} for {config.steps} steps")
        else:
            lines.append("smaller: gradient_checkpointing, batch_size, resolution, method = 'lora'")
    return "\n".join(lines)


def memory_by_part(config: DreamBoothConfig, run: Run, step: Step, batch: Batch) -> dict[str, int]:
    """Bytes of each part of a step, at the size of its micro-batch."""
    trained = sum(p.numel() for p in run.weights.parameters)
    models = list(run.weights.models)
    if config.method == "full" and config.asks_base:
        with run.weights.base_unet() as frozen:
            models.append(frozen)
    held = [p for model in models for p in model.parameters()]
    gradients = 4 * trained
    parts = {
        "weights": sum(p.numel() * p.element_size() for p in held),
        "gradients": gradients,
        "optimizer": OPTIMIZER_BYTES[config.optimizer] * trained,
    }
    if config.ema_decay is not None:
        parts["average"] = 4 * trained
    return parts | {"activations": max(0, step_peak(step, batch, config.batch_size) - gradients)}


def step_peak(step: Step, batch: Batch, micro_batch: int) -> int:
    """The most bytes that the gradients of `batch` need at a time, weights not counted.

    Nothing is computed: parameters and batch stand as fake tensors within the pass.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with contextlib.ExitStack() as stack:
        for model in step.weights.models:
            parameters: dict[str, Tensor] = {
                name: fake.from_tensor(p) for name, p in model.named_parameters()
            }
            stack.enter_context(_reparametrize_module(model, parameters))
        stack.enter_context(fake)
        peak: PeakBytes = stack.enter_context(PeakBytes())
        standing_in = Batch(
            latents=fake.from_tensor(batch.latents),
            noise=fake.from_tensor(batch.noise),
            timesteps=fake.from_tensor(batch.timesteps),
            texts=fake.from_tensor(batch.texts),
            instance_rows=batch.instance_rows,
        )
        step.gradients(standing_in, micro_batch)
    return peak.peak


def time_step(run: Run, step: Step, batch: Batch) -> float:
    """Seconds of one real step; it changes the weights."""
    started = time.perf_counter()
    step.gradients(batch, run.config.batch_size).item()
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def memory_there(device: torch.device) -> int:
    """Bytes that a run could have on `device`."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        return free
    available: int = psutil.virtual_memory().available
    return available
