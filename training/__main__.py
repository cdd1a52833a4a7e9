"""The trainer's commands: `python -m training dreambooth --dataset DIR --name rex`."""

import argparse
import dataclasses
import errno
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.options import Parser
from training.config import ConfigError, build, read_toml
from training.errors import Stopped, TrainingError

if TYPE_CHECKING:
    from training.report import Report

ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
}
"""glibc gives big tensors back to the system after every step; this keeps them (1.2-1.4x)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it went well, 2 for what the caller can mend, with one line why."""
    options = parser().parse_args(arguments)
    home = Path(os.environ.get("DOGBOOTH_HOME", "artifacts"))
    from training.report import is_first_process

    def command() -> None:
        folder: Path | None = options.run(options, home)
        if folder is not None and is_first_process():
            print(f"published {folder.name} in {folder.parent}")

    return exit_code(command)


def exit_code(command: Callable[[], None]) -> int:
    """Run `command`; 0, or after one line on stderr 2 for what the caller can mend and 128 + the
    signal that stopped it."""
    from data.errors import DataError
    from models.errors import ModelsError

    try:
        command()
    except Stopped as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except (ConfigError, ModelsError, DataError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: the disk is full: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line; every field of a command's settings is an option of it."""
    top = Parser(prog="python -m training", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    learn = commands.add_parser(
        "dreambooth",
        help="teach a base some breeds, or one dog, and publish the model",
        description="Settings come from --config, then from the options.",
    )
    learn.add_argument("--config", type=Path, help="a TOML file of settings")
    learn.add_argument(
        "--photos", type=Path, help="a folder of photos of one animal, or of such folders"
    )
    learn.add_argument("--class", dest="class_word", default="dog", help="what the photos show")
    learn.add_argument(
        "--buckets",
        action="store_true",
        help="learn the photos of --photos uncut too, in their own aspect ratios",
    )
    learn.add_argument("--report", type=Path, help="a file to append the progress to, JSON lines")
    learn.add_argument(
        "--folder",
        type=Path,
        help="where the run's photos, checkpoints and samples go "
        "(default: DOGBOOTH_HOME/training/runs/NAME)",
    )
    learn.add_argument(
        "--leashed",
        action="store_true",
        help="begin at a line on stdin, stop when stdin ends: for a program that starts runs",
    )
    learn.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be trained, its memory and its time, and end",
    )
    from training.dreambooth_config import DreamBoothConfig

    add_settings(learn, DreamBoothConfig)
    learn.set_defaults(run=run_dreambooth)

    shorten = commands.add_parser(
        "distill",
        help="teach a base to draw in few steps without guidance, and publish that as a LoRA",
        description="Settings come from --config, then from the options.",
    )
    shorten.add_argument("--config", type=Path, help="a TOML file of settings")
    from training.distill_config import DistillConfig

    add_settings(shorten, DistillConfig)
    shorten.set_defaults(run=run_distill)

    make = commands.add_parser(
        "pretrain", help="train a base from scratch: autoencoder, latents, U-Net (hours)"
    )
    make.add_argument("--config", type=Path, help="a recipe (default: the shipped base's)")
    make.add_argument("--dataset", type=Path, help="a folder that `python -m data prepare` wrote")
    make.add_argument("--work", type=Path, help="checkpoints, curves and samples")
    make.add_argument("--output", type=Path, help="the catalog folder to publish into")
    make.add_argument(
        "--until", choices=("autoencoder", "latents", "polish", "unet"), default="unet"
    )
    make.set_defaults(run=run_pretrain)

    enlarge = commands.add_parser(
        "upscaler", help="train a decoder for a base that draws twice as large, and add it"
    )
    enlarge.add_argument("--config", type=Path, help="a recipe (default: the shipped one's)")
    enlarge.add_argument("--base", help="a catalog name")
    enlarge.add_argument(
        "--dataset", type=Path, help="a folder that `python -m data prepare` wrote"
    )
    enlarge.add_argument("--work", type=Path, help="checkpoints, curves and samples")
    enlarge.set_defaults(run=run_upscaler)

    judge = commands.add_parser(
        "evaluate",
        help="draw what a model was taught, judge it beside real photos, write its model card",
        description="Writes evaluation.json, README.md and pictures into the model's folder.",
    )
    judge.add_argument("model", metavar="MODEL", help="a catalog name")
    from training.evaluation.setting import EvaluateConfig

    add_settings(judge, EvaluateConfig, without=("model",))
    judge.set_defaults(run=run_evaluate)
    return top


def add_settings(command: argparse.ArgumentParser, kind: type, without: Sequence[str] = ()) -> None:
    """Add one option for each field of the dataclass `kind`, with the field's own type."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name in without:
            continue
        option = "--" + field.name.replace("_", "-")
        hint, several = hints[field.name], False
        if isinstance(hint, types.UnionType):
            hint = next(a for a in typing.get_args(hint) if a is not type(None))
        if typing.get_origin(hint) is tuple:
            hint, several = typing.get_args(hint)[0], True
        extra: dict[str, Any] = {"default": None, "dest": field.name}
        if hint is bool:
            extra["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(hint) is typing.Literal:
            extra["choices"] = typing.get_args(hint)
        else:
            extra |= {"type": hint, "metavar": hint.__name__.upper()}
            if several:
                extra["action"] = "append"
        default = field.default
        if default not in (dataclasses.MISSING, None, "", ()):
            extra["help"] = f"default: {default}"
        command.add_argument(option, **extra)


def run_dreambooth(options: argparse.Namespace, home: Path) -> Path | None:
    """Train and publish, with the progress and the end of it in the file --report."""
    from training.leash import wait_for_leave
    from training.report import Report

    if options.leashed:
        wait_for_leave()
    report = Report(options.report)
    try:
        return train(options, home, report)
    except Stopped as error:
        report.event("stopped", step=error.step)
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        code = "disk_full" if full else getattr(error, "code", "internal_error")
        report.event("failed", code=code, message=str(error))
        raise


def train(options: argparse.Namespace, home: Path, report: "Report") -> Path | None:
    """Prepare own photos where --photos names them, then train and publish, or only estimate."""
    from models.catalog import Catalog, embedded_folder
    from training.dreambooth import DreamBoothConfig, dreambooth

    report.event("preparing")
    values = settings_of(options, DreamBoothConfig)
    if options.photos is not None:
        values["dataset"] = prepare_photos(options, values, home)
    for key in ("name", "dataset"):
        if key not in values:
            raise ConfigError(f"{key}: needed; give --{key} or set it in --config")
    config = build(DreamBoothConfig, values)
    catalog = Catalog([home / "models", embedded_folder()])
    if options.dry_run:
        from training.estimate import estimate

        print(estimate(config, catalog))
        return None
    return dreambooth(config, catalog, home / "training", report, options.folder)


def prepare_photos(options: argparse.Namespace, values: dict[str, Any], home: Path) -> Path:
    """Crop the photos of --photos into a dataset under `home`; return its folder.

    Of several processes the first one does it, and the others wait.
    """
    from accelerate import PartialState

    from data.prepare import prepare_photos as prepare
    from data.selection import Settings
    from models.pipeline import choose_device

    if "name" not in values:
        raise ConfigError("name: needed with --photos: what to call the animal")
    resolution = values.get("resolution") or 128
    output: Path = home / "data" / values["name"]
    if options.folder is not None:
        output = options.folder / "dataset"
    crops = ("portrait", "whole", *(("bucket",) if options.buckets else ()))
    settings = Settings(crops=crops, resolution=resolution * 9 // 8, min_side=1)
    processes = PartialState(cpu=choose_device(values.get("device", "auto")).type == "cpu")
    if processes.is_main_process:
        prepare(
            options.photos, output, values["name"], options.class_word, settings, overwrite=True
        )
    processes.wait_for_everyone()
    return output


def run_distill(options: argparse.Namespace, home: Path) -> Path:
    """Distil a base, from the settings of --config and the options."""
    from models.catalog import Catalog, embedded_folder
    from training.distill import distill
    from training.distill_config import DistillConfig

    values = settings_of(options, DistillConfig)
    if "name" not in values:
        raise ConfigError("name: needed; give --name or set it in --config")
    config = build(DistillConfig, values)
    return distill(config, Catalog([home / "models", embedded_folder()]), home / "training")


def settings_of(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """What --config says of the dataclass `kind`, and over it what the options say."""
    values = read_toml(options.config) if options.config else {}
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(kind)}
    return values | {name: value for name, value in given.items() if value is not None}


def run_pretrain(options: argparse.Namespace, home: Path) -> Path | None:
    """Run the stages of a recipe."""
    from models.catalog import Catalog
    from training.pretrain import PretrainConfig, pretrain, recipe_path

    values = read_toml(options.config or recipe_path())
    for key in ("dataset", "work"):
        if getattr(options, key) is not None:
            values[key] = getattr(options, key)
    catalog = Catalog([options.output or home / "models"])
    return pretrain(build(PretrainConfig, values), catalog, options.until)


def run_upscaler(options: argparse.Namespace, home: Path) -> Path:
    """Train a larger decoder for a base."""
    from models.catalog import Catalog, embedded_folder
    from training.pretrain import recipe_path
    from training.upscaler import UpscalerConfig, train_upscaler

    values = read_toml(options.config or recipe_path("upscaler"))
    for key in ("base", "dataset", "work"):
        if getattr(options, key) is not None:
            values[key] = getattr(options, key)
    catalog = Catalog([home / "models", embedded_folder()])
    return train_upscaler(build(UpscalerConfig, values), catalog)


def run_evaluate(options: argparse.Namespace, home: Path) -> None:
    """Judge one model and say where the findings are."""
    from models.catalog import Catalog, embedded_folder
    from training.evaluation.evaluate import evaluate
    from training.evaluation.setting import EvaluateConfig

    fields = [field.name for field in dataclasses.fields(EvaluateConfig)]
    given = {name: getattr(options, name) for name in fields}
    values = {name: value for name, value in given.items() if value is not None}
    catalog = Catalog([home / "models", embedded_folder()])
    folder = evaluate(build(EvaluateConfig, values), catalog, home)
    print(f"evaluation.json, README.md and pictures in {folder}")


def keep_memory(module: str = "training") -> None:
    """Start `module` again with ALLOCATOR where its process does not have it yet."""
    if sys.platform == "linux" and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(
            sys.executable,
            [sys.executable, "-m", module, *sys.argv[1:]],
            os.environ | ALLOCATOR,
        )


if __name__ == "__main__":
    keep_memory()
    sys.exit(main())
