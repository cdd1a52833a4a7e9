"""Takes a foreign model in: recognised by its content, checked, written anew, published whole."""

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors.torch import save_file

from models.catalog import Catalog, CatalogEntry
from models.errors import ModelExists, ModelNotFound, ModelRefused
from models.formats.components import (
    PARTS,
    Components,
    native_resolution,
    read_components,
    read_config,
    read_json,
)
from models.formats.folder import (
    SCHEDULER_FILE,
    copy_frame,
    inspect_folder,
    take_folder,
    write_json,
    write_weights,
)
from models.formats.ldm import check_ldm, from_ldm, is_checkpoint
from models.formats.lora_file import LoraLayers, diffusers_state, is_kohya, is_lora, read_lora
from models.formats.metadata import MAX_MANIFEST, described, manifest_fields
from models.formats.tensor_file import TensorFile, open_tensors
from models.manifest import ADAPTER_FILE, MANIFEST_FILE, Manifest

T = TypeVar("T")

PREDICTIONS = {"v": "v_prediction", "epsilon": "epsilon"}


def import_model(
    source: Path,
    name: str,
    catalog: Catalog,
    base: str | None = None,
    fields: dict[str, Any] | None = None,
    replace: bool = False,
    label: str | None = None,
) -> CatalogEntry:
    """Publish the model in `source` as `name`: a diffusers folder, a checkpoint or a LoRA.

    A LoRA needs its `base`, and a single-file checkpoint one whose configuration is its own: a
    whole model of the catalog, found by its shapes where none is named. `fields` of the manifest
    stand before what the source says of itself. `label` is what messages call the source.
    Raises ModelRefused (which file, and why), ModelExists; nothing half-taken stays.
    """
    label = label or source.name
    if not replace and any(entry.manifest.name == name for entry in catalog.entries()):
        raise ModelExists(f"a model is called {name!r} already")
    if source.is_dir():
        return _import_folder(source, name, catalog, base, fields or {}, replace)
    if not source.is_file():
        raise ModelRefused(f"{label}: neither a file nor a folder")
    file = open_tensors(source, label)
    if is_checkpoint(file):
        return _import_checkpoint(file, name, catalog, base, fields or {}, replace)
    if is_lora(file):
        return _import_lora(file, name, catalog, base, fields or {}, replace)
    first = next(iter(file.shapes))
    raise ModelRefused(
        f"{label}: neither a Stable Diffusion checkpoint nor a LoRA; it holds {first[:120]!r}"
    )


def _import_folder(
    source: Path,
    name: str,
    catalog: Catalog,
    base: str | None,
    fields: dict[str, Any],
    replace: bool,
) -> CatalogEntry:
    if base is not None:
        _whole_model(base, catalog)
    told: dict[str, Any] = {"training": {"imported": {"format": "diffusers"}}}
    if (source / MANIFEST_FILE).is_file():
        with (source / MANIFEST_FILE).open("rb") as manifest_file:
            told = manifest_fields(manifest_file.read(MAX_MANIFEST + 1), MANIFEST_FILE)
    components = inspect_folder(source)
    manifest = _manifest(
        told | fields,
        name=name,
        kind="base" if base is None else "checkpoint",
        base=base,
        resolution=native_resolution(components),
    )
    with catalog.publish(manifest, replace) as folder:
        take_folder(source, components, folder)
    return catalog.get(name)


def _import_checkpoint(
    file: TensorFile,
    name: str,
    catalog: Catalog,
    base: str | None,
    fields: dict[str, Any],
    replace: bool,
) -> CatalogEntry:
    def fit(folder: Path) -> Components:
        components = read_components(folder)
        check_ldm(file, components, {part: read_config(folder, part) for part in PARTS})
        return components

    donor, components = _find_base(file, base, catalog, fit)
    manifest = _manifest_on(donor.manifest, file, "checkpoint", fields, name, "checkpoint")
    with catalog.publish(manifest, replace) as folder:
        copy_frame(donor.folder, folder)
        for part in PARTS:
            state = from_ldm(file, part, components, read_config(donor.folder, part))
            write_weights({part: state}, folder)
        prediction = PREDICTIONS.get(file.metadata.get("modelspec.prediction_type", ""))
        path = folder / "scheduler" / SCHEDULER_FILE
        if prediction is not None:
            write_json(path, read_json(path, path.name) | {"prediction_type": prediction})
    return catalog.get(name)


def _import_lora(
    file: TensorFile,
    name: str,
    catalog: Catalog,
    base: str | None,
    fields: dict[str, Any],
    replace: bool,
) -> CatalogEntry:
    def fit(folder: Path) -> LoraLayers:
        components = read_components(folder)
        return read_lora(file, components.unet, components.text_encoder)

    found, layers = _find_base(file, base, catalog, fit)
    form = "kohya" if is_kohya(file) else "lora"
    manifest = _manifest_on(found.manifest, file, form, fields, name, "adapter")
    with catalog.publish(manifest, replace) as folder:
        state, metadata = diffusers_state(layers)
        save_file(state, folder / ADAPTER_FILE, metadata)
    return catalog.get(name)


def _find_base(
    file: TensorFile, base: str | None, catalog: Catalog, fit: Callable[[Path], T]
) -> tuple[CatalogEntry, T]:
    """The whole model called `base`, or the one that the file fits, and what `fit` read of it.

    `fit` takes the model's folder. Raises ModelRefused.
    """
    if base is not None:
        entry = _whole_model(base, catalog)
        return entry, fit(entry.folder)
    fitting, reasons = [], []
    for entry in catalog.entries():
        if entry.manifest.kind != "base":
            continue
        try:
            fitting.append((entry, fit(entry.folder)))
        except ModelRefused as error:
            reasons.append(f"{entry.manifest.name}: {str(error).removeprefix(file.label + ': ')}")
    if len(fitting) > 1:
        names = ", ".join(entry.manifest.name for entry, _ in fitting)
        raise ModelRefused(f"{file.label}: fits {names}; say which is its base")
    if not fitting:
        tried = "; ".join(reasons[:3]) or "there is no base"
        raise ModelRefused(f"{file.label}: fits no base here ({tried})")
    return fitting[0]


def _whole_model(name: str, catalog: Catalog) -> CatalogEntry:
    try:
        entry = catalog.get(name)
    except ModelNotFound as error:
        raise ModelRefused(f"base: {error}") from error
    if entry.manifest.kind == "adapter":
        raise ModelRefused(f"base {name!r}: is itself an adapter; name a whole model")
    return entry


def _manifest_on(
    base: Manifest, file: TensorFile, form: str, fields: dict[str, Any], name: str, kind: str
) -> Manifest:
    """Of what comes from a `file` of the format `form` and stands on `base`."""
    told = base.inherited() | described(file.metadata, file.label) | fields
    with file.path.open("rb") as opened:
        digest = file_digest(opened, "sha256").hexdigest()
    origin = {"format": form, "file": file.label[:200], "sha256": digest}
    return _manifest(
        told | {"training": told.get("training", {}) | {"imported": origin}},
        name=name,
        kind=kind,
        base=base.name,
        resolution=base.resolution,
    )


def _manifest(fields: dict[str, Any], **own: Any) -> Manifest:
    try:
        return Manifest.model_validate({"created": datetime.now(UTC)} | fields | own)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise ModelRefused(f"{where} {detail['input']!r:.80}: {detail['msg']}") from error
