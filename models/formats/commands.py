"""The commands of `python -m models` that take models in and give them out."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.catalog import Catalog
from models.formats import FORMATS


def add_commands(commands: Any) -> None:
    """Add `import`, `export` and `extract-lora`; each sets `run(options, catalog)`."""
    taken = commands.add_parser(
        "import", help="a diffusers folder, a checkpoint or a LoRA into the catalog"
    )
    taken.add_argument("source", type=Path, help="a folder or a safetensors file")
    taken.add_argument("--name", required=True, help="what it is to be called in the catalog")
    taken.add_argument("--base", help="the model that it adapts or was trained from")
    taken.add_argument("--description", help="what it draws")
    taken.add_argument("--tag", action="append", dest="tags", help="may be given several times")
    taken.add_argument("--replace", action="store_true", help="in place of one of that name")
    taken.set_defaults(run=_import)

    given = commands.add_parser("export", help="a model for diffusers, A1111, ComfyUI or kohya")
    given.add_argument("model", help="a catalog name")
    given.add_argument("--format", choices=FORMATS, required=True)
    given.add_argument("--output", type=Path, help="a folder for diffusers, else a file")
    given.add_argument("--push-to-hub", metavar="USER/NAME", help="a repository of the Hub")
    given.add_argument("--private", action="store_true", help="a new repository is not public")
    given.set_defaults(run=_export)

    extracted = commands.add_parser("extract-lora", help="what a checkpoint changed, as a LoRA")
    extracted.add_argument("model", help="a checkpoint of the catalog")
    extracted.add_argument("--name", required=True, help="what the adapter is to be called")
    extracted.add_argument("--base", help="what it was trained from (default: as it says)")
    size = extracted.add_mutually_exclusive_group()
    size.add_argument("--energy", type=float, default=0.99, help="share of the squared change")
    size.add_argument("--rank", type=int, help="of every layer, instead of by energy")
    extracted.add_argument("--replace", action="store_true", help="in place of one of that name")
    extracted.set_defaults(run=_extract)


def _import(options: argparse.Namespace, catalog: Catalog) -> str:
    from models.formats.importing import import_model

    told = {"description": options.description, "tags": options.tags}
    fields = {key: value for key, value in told.items() if value is not None}
    entry = import_model(
        options.source, options.name, catalog, options.base, fields, options.replace
    )
    base = f" on {entry.manifest.base}" if entry.manifest.base else ""
    return f"{entry.manifest.kind} {entry.manifest.name}{base}: {entry.folder}"


def _export(options: argparse.Namespace, catalog: Catalog) -> str:
    from models.formats.exporting import export_model
    from models.formats.hub import prepare_repository, push

    if options.output is None and options.push_to_hub is None:
        raise ValueError("export needs --output, --push-to-hub, or both")
    said = []
    if options.output is not None:
        export_model(options.model, options.format, options.output, catalog)
        said.append(str(options.output))
    if options.push_to_hub is not None:
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "repository"
            prepare_repository(options.model, options.format, folder, catalog)
            said.append(push(folder, options.push_to_hub, options.private))
    return f"{options.model} as {options.format}: {', '.join(said)}"


def _extract(options: argparse.Namespace, catalog: Catalog) -> str:
    from models.formats.extract import extract_lora

    made = extract_lora(
        options.model,
        options.name,
        catalog,
        options.base,
        options.energy,
        options.rank,
        options.replace,
    )
    return (
        f"adapter {options.name}: {made.layers} layers of rank {made.smallest_rank} to "
        f"{made.largest_rank}, {made.energy:.2%} of their change; {made.left_out:.2%} of all "
        "change is in weights that no LoRA holds"
    )
