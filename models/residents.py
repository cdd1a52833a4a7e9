"""The weights in memory: bases with their adapters, loaded beside the ticks, under a budget."""

import ctypes
import gc
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from models.attention import speed_up
from models.catalog import Catalog
from models.errors import InvalidModel, ModelNotFound, NotEnoughMemory
from models.lora import Adapter, RowAdapters, read_adapter
from models.manifest import ADAPTER_FILE
from models.packing import pack
from models.pipeline import load_pipeline
from models.prompts import PromptEncoder
from models.twins import TwinRows
from models.upscaler import load_upscaler

NO_REVISION = ""
"""Of a base that the catalog does not hold: a path or a hub id."""


@dataclass(eq=False)
class Base:
    """A whole pipeline and the adapters that were read for it."""

    name: str
    revision: str
    pipeline: StableDiffusionPipeline
    upscaler: AutoencoderKL | None = None
    """Decodes latents to larger pictures, where asked."""
    scheduler_config: Mapping[str, Any] = field(init=False)
    prompts: PromptEncoder = field(init=False)
    rows: RowAdapters = field(init=False)
    twins: TwinRows = field(init=False)
    adapters: dict[str, tuple[str, Adapter]] = field(default_factory=dict)
    """Revision and weights by name."""
    size: int = field(init=False)
    """Bytes, adapters not counted."""
    preview_projection: torch.Tensor | None = None

    def __post_init__(self) -> None:
        pipeline = self.pipeline
        self.scheduler_config = pipeline.scheduler.config
        self.prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder)
        self.rows = RowAdapters(pipeline.unet)
        self.twins = TwinRows(pipeline.unet)
        speed_up(pipeline.unet)
        pack(pipeline.unet)
        components = [pipeline.unet, pipeline.vae, pipeline.text_encoder]
        if self.upscaler is not None:
            components.append(self.upscaler)
        if pipeline.safety_checker is not None:
            components.append(pipeline.safety_checker)
        self.size = sum(
            parameter.numel() * parameter.element_size()
            for component in components
            for parameter in component.parameters()
        )


Loaded: TypeAlias = Base | tuple[Base, str, str, Adapter]
"""What the loader gives: a base; or an adapter with its base, its name and its revision."""


@dataclass(frozen=True, eq=False)
class Placement:
    """What a request runs on."""

    base: Base
    adapter: Adapter | None

    @property
    def weights(self) -> set[Base | Adapter]:
        """What must stay in memory while the request runs."""
        return {self.base} if self.adapter is None else {self.base, self.adapter}


@dataclass(frozen=True)
class Address:
    """A model's base and adapter by name, each with the revision that the catalog has now."""

    base: str
    base_revision: str
    adapter: str | None = None
    adapter_revision: str = NO_REVISION


def find_address(model: str, catalog: Catalog) -> Address:
    """Where `model` is; reads manifests only. Raises ModelNotFound or InvalidModel."""
    entry = catalog.get(model)
    if entry.manifest.kind != "adapter":
        return Address(model, entry.revision)
    base = entry.manifest.base
    if base is None:
        raise InvalidModel(f"{model}: an adapter's manifest names its base")
    try:
        base_entry = catalog.get(base)
    except ModelNotFound:
        return Address(base, NO_REVISION, model, entry.revision)
    if base_entry.manifest.kind == "adapter":
        raise InvalidModel(f"{model}: its base is itself an adapter")
    return Address(base, base_entry.revision, model, entry.revision)


class Residents:
    """Bases and adapters under `budget` bytes, least recently used ones leaving first.

    All methods belong to one thread; loading goes on in another, one model at a time, and calls
    `on_loaded` from there when it has ended.
    """

    def __init__(
        self,
        catalog: Catalog,
        device: torch.device,
        dtype: torch.dtype,
        budget: int | None,
        on_loaded: Callable[[], None],
        safety_checker: bool = False,
    ) -> None:
        self._catalog = catalog
        self._device = device
        self._dtype = dtype
        self.budget = budget or default_budget(device)
        self._on_loaded = on_loaded
        self._safety_checker = safety_checker
        self._bases: dict[str, Base] = {}
        self._used: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        """(base, adapter or None), last used last."""
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="dogbooth-loader")
        self._loading: tuple[str, Future[Loaded]] | None = None

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(self._size_of(key) for key in self._used)

    def names(self) -> tuple[str, ...]:
        """Catalog names of what is in memory."""
        return tuple(adapter or base for base, adapter in list(self._used))

    def find(self, address: Address) -> Placement | None:
        """The weights at `address`, if they are in memory."""
        base = self._bases.get(address.base)
        if base is None or base.revision != address.base_revision:
            return None
        self._used.move_to_end((base.name, None))
        if address.adapter is None:
            return Placement(base, None)
        revision, adapter = base.adapters.get(address.adapter, (None, None))
        if revision != address.adapter_revision:
            return None
        self._used.move_to_end((base.name, address.adapter))
        return Placement(base, adapter)

    def load(self, model: str, in_use: Collection[Base | Adapter]) -> bool:
        """Begin to load `model`, or the base it needs first; False while there is no room for it.

        While something is being loaded, nothing else begins.
        Drops what was used least recently and is not `in_use`. Raises ModelNotFound, InvalidModel,
        or NotEnoughMemory where the model alone is above the budget.
        """
        if self._loading is not None:
            return True
        address = find_address(model, self._catalog)
        base = self._bases.get(address.base)
        if base is not None and base.revision == address.base_revision:
            needed: Collection[Base | Adapter] = {*in_use, base}
            wanted = (self._catalog.get(model).folder / ADAPTER_FILE).stat().st_size
            read = partial(self._load_adapter, model, base)
        else:
            if base is not None and base not in in_use:
                self._drop((base.name, None))
            needed = in_use
            wanted = self._weight_of_base(address.base)
            read = partial(self._load_base, model, address.base)
        if not self._make_room(wanted, needed):
            if not in_use:
                raise NotEnoughMemory(
                    f"{model} needs {(self.size + wanted) / 2**20:.0f} MiB, "
                    f"the memory budget is {self.budget / 2**20:.0f} MiB"
                )
            return False
        future = self._loader.submit(read)
        self._loading = model, future
        future.add_done_callback(lambda _: self._on_loaded())
        return True

    def collect(self) -> tuple[str, Exception | None] | None:
        """Take in what has been loaded; the model that it was loaded for and what went wrong."""
        if self._loading is None or not self._loading[1].done():
            return None
        model, future = self._loading
        self._loading = None
        error = future.exception()
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            return model, error
        loaded = future.result()
        if isinstance(loaded, Base):
            if loaded.name in self._bases:  # published again while the old one was in use
                self._drop((loaded.name, None))
            self._bases[loaded.name] = loaded
            self._used[loaded.name, None] = None
        else:
            base, name, revision, adapter = loaded
            if self._bases.get(base.name) is base:
                if name in base.adapters:
                    self._drop((base.name, name))
                base.rows.add_layers(adapter.unet)
                base.prompts.adapters.add_layers(adapter.text_encoder)
                base.adapters[name] = revision, adapter
                self._used[base.name, name] = None
        return model, None

    def drop(self, model: str) -> None:
        """Let go of `model`, a base with its adapters, if it is in memory; nothing may use it."""
        for base, adapter in list(self._used):
            if model == adapter or (adapter is None and model == base):
                self._drop((base, adapter))

    def close(self) -> None:
        """Stop the loader and let go of all weights."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        self._bases.clear()
        self._used.clear()
        release_memory()

    def _load_base(self, model: str, name: str) -> Loaded:
        """Reads again when the model was published anew in between."""
        while True:
            revision = self._revision(name)
            try:
                pipeline = load_pipeline(
                    name, self._catalog, self._device, self._dtype, self._safety_checker
                )
            except ModelNotFound as error:
                if name == model:
                    raise
                raise InvalidModel(f"{model}: its base is missing: {error}") from error
            except InvalidModel:
                if self._revision(name) == revision:
                    raise
            else:
                return Base(name, revision, pipeline, self._upscaler(name))

    def _upscaler(self, name: str) -> AutoencoderKL | None:
        try:
            folder = self._catalog.get(name).folder
        except ModelNotFound:
            return None
        return load_upscaler(folder, self._device, self._dtype)

    def _load_adapter(self, name: str, base: Base) -> Loaded:
        while True:
            entry = self._catalog.get(name)
            try:
                return base, name, entry.revision, read_adapter(entry, base.pipeline)
            except InvalidModel:
                if self._catalog.get(name).revision == entry.revision:
                    raise

    def _revision(self, name: str) -> str:
        try:
            return self._catalog.get(name).revision
        except ModelNotFound:
            return NO_REVISION

    def _weight_of_base(self, name: str) -> int:
        """Bytes of the weights on disk; 0 where they are still to be fetched from a hub."""
        try:
            path = self._catalog.get(name).folder
        except ModelNotFound:
            path = Path(name)
        files = path.glob("*/*.safetensors") if path.is_dir() else [path] * path.is_file()
        return sum(file.stat().st_size for file in files)

    def _make_room(self, wanted: int, in_use: Collection[Base | Adapter]) -> bool:
        """Drop the least recently used until `wanted` more bytes fit; False where they do not."""
        for key in list(self._used):
            if self.size + wanted <= self.budget:
                return True
            base = self._bases.get(key[0])
            if base is None or key not in self._used:
                continue
            held = {base, *(adapter for _, adapter in base.adapters.values())}
            if key[1] is not None:
                held = {base.adapters[key[1]][1]}
            if held.isdisjoint(in_use):
                self._drop(key)
        return self.size + wanted <= self.budget

    def _drop(self, key: tuple[str, str | None]) -> None:
        name, adapter_name = key
        base = self._bases[name]
        if adapter_name is not None:
            _, adapter = base.adapters.pop(adapter_name)
            base.prompts.forget(adapter)
            del self._used[key]
            return
        for used in [used for used in self._used if used[0] == name]:
            del self._used[used]
        del self._bases[name], base
        release_memory()

    def _size_of(self, key: tuple[str, str | None]) -> int:
        base = self._bases[key[0]]
        return base.size if key[1] is None else base.adapters[key[1]][1].size


def default_budget(device: torch.device) -> int:
    """Half of the device's memory in bytes; the rest is for activations and for others."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 2)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def release_memory() -> None:
    """Give what was freed back to the device and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; musl has none
        if trim is not None:
            trim(0)
