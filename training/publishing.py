"""From trained weights to a model of the catalog."""

import datetime as dt
import re
from contextlib import suppress
from pathlib import Path

from PIL import Image

from models.catalog import Catalog
from models.errors import ModelNotFound, ModelsError
from models.manifest import NAME_PATTERN, Manifest
from models.upscaler import copy_upscaler
from training.adapters import save_adapter
from training.checkpoints import save_pipeline
from training.config import ConfigError, plain
from training.distill_config import DistillConfig
from training.dreambooth_config import DreamBoothConfig
from training.preparation import Run
from training.resuming import Progress
from training.versions import library_versions


def check_names(config: DreamBoothConfig | DistillConfig, catalog: Catalog) -> None:
    """Refuse a bad or taken name, or a base that is none, before the training and not after."""
    if not re.fullmatch(NAME_PATTERN.strip("^$"), config.name):
        raise ConfigError(f"name: {config.name!r} is not lower-case letters, digits, '.', '_', '-'")
    kinds = {entry.manifest.name: entry.manifest.kind for entry in catalog.entries()}
    if config.name in kinds and not config.replace:
        raise ConfigError(f"name: a model {config.name!r} is published already (see --replace)")
    if kinds.get(config.base) == "adapter":
        raise ConfigError(f"base: {config.base!r} is itself an adapter; train on a whole model")


def manifest_of(name: str, catalog: Catalog) -> Manifest | None:
    """The manifest of a model; None where the catalog has none, as of a path or a hub id."""
    with suppress(ModelsError):
        return catalog.get(name).manifest
    return None


def published_from(folder: Path, config: DreamBoothConfig, catalog: Catalog) -> Path | None:
    """The model `config.name` where the run of `folder` published it before."""
    with suppress(ModelsError):
        entry = catalog.get(config.name)
        if entry.manifest.training.get("run") == folder.name:
            return entry.folder
    return None


def publish(
    run: Run,
    catalog: Catalog,
    progress: Progress,
    change: float,
    grids: dict[str, Image.Image],
    origin: str | None = None,
) -> Path:
    """Publish the run's weights with `grids` (file name to picture) beside them; the folder.

    `origin` tells `published_from` of whose folder it came.
    """
    config, pipeline = run.config, run.pipeline
    manifest = make_manifest(run, catalog, progress, change, origin)
    with catalog.publish(manifest, replace=config.replace) as folder:
        if manifest.kind == "adapter":
            save_adapter(folder, run.weights.unet, run.weights.text_encoder)
        else:
            for parked in run.parked.values():
                parked.restore()
            if run.weights.tokens is not None:
                run.weights.tokens.settle()
            if config.dora:
                pipeline.fuse_lora(components=["unet", "text_encoder"])
                pipeline.unload_lora_weights()
            save_pipeline(pipeline, folder)
            with suppress(ModelNotFound):  # a base from elsewhere has none
                copy_upscaler(catalog.get(config.base).folder, folder)
        for name, picture in grids.items():
            picture.save(folder / name)
    return catalog.get(config.name).folder


def make_manifest(
    run: Run, catalog: Catalog, progress: Progress, change: float, origin: str | None
) -> Manifest:
    """Everything that the run was."""
    config = run.config
    base = manifest_of(config.base, catalog)
    defaults = {} if base is None else base.inherited()
    defaults["class_prompt"] = run.gathered.class_prompts[0]
    tail = progress.losses[-50:]
    chosen = progress.best_step or progress.step
    return Manifest(
        name=config.name,
        kind="adapter" if config.method == "lora" and not config.dora else "checkpoint",
        base=config.base,
        description=config.description,
        instance_prompts=run.subjects.instance_prompts,
        breeds=run.subjects.breeds,
        resolution=run.resolution,
        created=dt.datetime.now(dt.UTC),
        training={
            "command": "dreambooth",
            "config": plain(config),
            "precision": run.precision,
            "data_fingerprint": run.subjects.fingerprint,
            "photos": len(run.subjects.pictures),
            "steps": progress.step,
            "chosen_step": chosen,
            "scores": {str(step): score for step, score in progress.scores.items()},
            "first_loss": round(progress.losses[0], 7),
            "final_loss": round(sum(tail) / len(tail), 5),
            "validation_losses": [round(loss, 5) for loss in progress.validation],
            "validated_on": run.gathered.validated_on,
            "weight_change": float(f"{change:.4g}"),
            "versions": library_versions(),
            **({} if origin is None else {"run": origin}),
        },
        **defaults,
    )
