"""Models by hand: looked at, taken in and given out.

`python -m models sheet --output sheet.png` draws every breed of one,
`python -m models import rex.safetensors --name rex --base dogbooth-base` takes a LoRA in,
`python -m models explore grid --x steps=5,10,25 --y scheduler=ddim,euler` shows what settings do.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from models.catalog import Catalog, embedded_folder
from models.errors import ModelsError
from models.explore_commands import add_explore
from models.formats.commands import add_commands
from models.manifest import Manifest
from models.word_maps import add_attention

LABEL_HEIGHT = 22


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 and one line of text for what the caller can mend."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("sheet", help="a picture of everything that a model was taught")
    command.add_argument("--model", help="a catalog name (default: the service's default model)")
    command.add_argument("--output", type=Path, default=Path("contact_sheet.png"))
    command.add_argument("--seeds", type=int, default=4, help="seeds 0 to N-1 (default: 4)")
    command.add_argument("--prompt", action="append", help="instead of one prompt a breed")
    command.add_argument("--columns", type=int, default=2, help="prompts side by side")
    command.set_defaults(run=draw_sheet)
    add_commands(commands)
    add_explore(commands)
    add_attention(commands)
    options = parser.parse_args(arguments)
    home = Path(os.environ.get("DOGBOOTH_HOME", "artifacts"))
    catalog = Catalog([home / "models", embedded_folder()])
    try:
        print(options.run(options, catalog))
    except (ModelsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def draw_sheet(options: argparse.Namespace, catalog: Catalog) -> str:
    """Draw what a model was taught and save it as one picture."""
    if options.seeds < 1 or options.columns < 1:
        given = f"--seeds {options.seeds} and --columns {options.columns}"
        raise ValueError(f"{given} must be at least 1")
    name = options.model or catalog.default_model()
    prompts = options.prompt or taught_prompts(name, catalog)
    rows = draw_rows(name, prompts, options.seeds, catalog)
    sheet(prompts, rows, options.columns).save(options.output)
    return f"{len(prompts)} prompts, seeds 0 to {options.seeds - 1}: {options.output}"


def taught_prompts(name: str, catalog: Catalog) -> list[str]:
    """One prompt for each thing that a model and its base were taught, by name."""
    manifest: Manifest | None = catalog.get(name).manifest
    prompts: list[str] = []
    while manifest is not None:
        prompts += manifest.instance_prompts or [f"a photo of a {b}" for b in manifest.breeds]
        manifest = catalog.get(manifest.base).manifest if manifest.base else None
    return sorted(set(prompts), key=str.casefold)


def draw_rows(
    name: str, prompts: Sequence[str], seeds: int, catalog: Catalog
) -> list[list[Image.Image]]:
    """For each prompt the pictures of seeds 0 to `seeds` - 1, at the model's defaults."""
    from models.engine import LocalEngine
    from models.requests import GenerationRequest

    engine = LocalEngine(catalog, queue_limit=len(prompts))
    try:
        handles = [
            engine.submit(GenerationRequest(prompt, tuple(range(seeds)), name))
            for prompt in prompts
        ]
        return [[made.image for made in handle.result().images] for handle in handles]
    finally:
        engine.close()


def sheet(
    prompts: Sequence[str], rows: Sequence[Sequence[Image.Image]], columns: int, gap: int = 4
) -> Image.Image:
    """Each prompt above its pictures, `columns` prompts side by side."""
    width, height = rows[0][0].size
    cell = (len(rows[0]) * (width + gap) + 2 * gap, height + LABEL_HEIGHT + gap)
    lines = -(-len(prompts) // columns)
    canvas = Image.new("RGB", (columns * cell[0], lines * cell[1]), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for index, (prompt, pictures) in enumerate(zip(prompts, rows, strict=True)):
        x, y = index % columns * cell[0] + gap, index // columns * cell[1]
        pen.text((x, y + 2), prompt, fill="black", font=font)
        for number, picture in enumerate(pictures):
            canvas.paste(picture, (x + number * (width + gap), y + LABEL_HEIGHT))
    return canvas


if __name__ == "__main__":
    sys.exit(main())
