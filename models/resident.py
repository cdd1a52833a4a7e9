"""The pipelines kept in memory: the last used few, loaded again when published again."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from models.catalog import Catalog
from models.errors import InvalidModel, ModelNotFound
from models.pipeline import load_pipeline


@dataclass(frozen=True)
class Resident:
    """A loaded pipeline, its own noise schedule, and the revision it was loaded from."""

    pipeline: StableDiffusionPipeline
    scheduler_config: Mapping[str, Any]
    revision: str


class ResidentPipelines:
    """At most `limit` pipelines by catalog name; belongs to one thread."""

    def __init__(
        self, catalog: Catalog, device: torch.device, dtype: torch.dtype, limit: int
    ) -> None:
        self._catalog = catalog
        self._device = device
        self._dtype = dtype
        self._limit = limit
        self._held: OrderedDict[str, Resident] = OrderedDict()

    def names(self) -> tuple[str, ...]:
        return tuple(self._held)

    def clear(self) -> None:
        self._held.clear()

    def get(self, name: str) -> Resident:
        """The pipeline of the model as it stands in the catalog now."""
        held = self._held.pop(name, None)
        while held is None or held.revision != self._revision(name):
            held = None  # free it before its successor takes memory
            while len(self._held) >= self._limit:
                self._held.popitem(last=False)
            held = self._load(name)
        self._held[name] = held
        return held

    def _load(self, name: str) -> Resident | None:
        """None when the model was published anew while its files were being read."""
        revision = self._revision(name)
        try:
            pipeline = load_pipeline(name, self._catalog, self._device, self._dtype)
        except InvalidModel:
            if self._revision(name) == revision:
                raise
            return None
        return Resident(pipeline, pipeline.scheduler.config, revision)

    def _revision(self, name: str) -> str:
        """Changes when the model or the base it adapts is published again."""
        entry = self._catalog.get(name)
        if entry.manifest.kind != "adapter":
            return entry.revision
        try:
            return f"{entry.revision} {self._catalog.get(entry.manifest.base or '').revision}"
        except ModelNotFound:
            return entry.revision
