"""Our trainer beside diffusers' `examples/dreambooth`, which lie outside this repository.

`DIFFUSERS_EXAMPLES=.../diffusers/examples/dreambooth python -m benchmarks training`
The scripts need torchvision, which `PYTHONPATH` may add.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.servers import Setting
from training.__main__ import ALLOCATOR

Figures = dict[str, Any]
EXAMPLES = "DIFFUSERS_EXAMPLES"
PHOTOS = Path(__file__).parents[1].parent / "shared/data/dreambooth_subjects/dog6"
BATCH = 4
STEPS, WARM_UP = 40, 5
LARGE_STEPS = 4


def training(setting: Setting) -> Figures:
    """Embedded base, bf16, batch of 4 and as many of the class: photos a second and peak memory."""
    musts = {"must": "images/s >= 1.4 x diffusers', full and LoRA"}
    examples = find_examples()
    if examples is None:
        return skipped(musts["must"])
    figures: Figures = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        dataset = prepare(folder, 144)
        for method, script in (("full", "train_dreambooth"), ("lora", "train_dreambooth_lora")):
            ours = ["--dataset", str(dataset), "--name", f"rex-{method}", "--method", method]
            ours += ["--base", str(setting.base), "--steps", str(STEPS), "--rank", "16"]
            ours += ["--batch-size", str(BATCH), "--mixed-precision", "bf16", "--class-images", "8"]
            theirs = [*common(setting.base, folder / method), "--resolution", "128"]
            theirs += ["--max_train_steps", str(STEPS), "--train_batch_size", str(BATCH)]
            theirs += ["--with_prior_preservation", "--class_prompt", "a photo of a dog"]
            theirs += ["--class_data_dir", str(folder / "class"), "--num_class_images", "8"]
            theirs += ["--rank", "16"] if method == "lora" else []
            figures[method] = compare(setting, folder, examples / f"{script}.py", ours, theirs)
            for side in ("ours", "diffusers"):
                figures[method][side]["images_per_s"] = BATCH / figures[method][side]["s_per_step"]
    return figures | musts | {"holds": all(figures[m]["speed"] >= 1.4 for m in ("full", "lora"))}


def training_large(setting: Setting) -> Figures:
    """LoRA at Stable Diffusion v1.5's size, 512 px, bf16, gradient checkpointing: one photo."""
    musts = {"must": "speed >= 1.3, memory <= 0.85 of diffusers'"}
    examples = find_examples()
    if examples is None:
        return skipped(musts["must"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        make = [sys.executable, "-m", "benchmarks.sd15", "make", name, str(setting.threads)]
        subprocess.run(make, check=True, capture_output=True)
        base = folder / "sd15-random"
        ours = ["--dataset", str(prepare(folder, 512)), "--name", "rex", "--base", str(base)]
        ours += ["--steps", str(LARGE_STEPS), "--batch-size", "1", "--mixed-precision", "bf16"]
        ours += ["--gradient-checkpointing", "--rank", "16", "--prior", "none"]
        theirs = [*common(base, folder / "theirs"), "--resolution", "512", "--rank", "16"]
        theirs += ["--max_train_steps", str(LARGE_STEPS), "--train_batch_size", "1"]
        theirs += ["--gradient_checkpointing"]
        script = examples / "train_dreambooth_lora.py"
        figures = compare(setting, folder, script, ours, theirs)
    holds = figures["speed"] >= 1.3 and figures["memory"] <= 0.85
    return figures | musts | {"holds": holds}


def compare(
    setting: Setting, home: Path, script: Path, ours: list[str], theirs: list[str]
) -> Figures:
    """Both sides, one after the other; ours without what theirs does not do: no validation."""
    ours = [*ours, "--validate-every", "0", "--sample-images", "0", "--device", "cpu"]
    ours += ["--no-train-text-encoder", "--lora-targets", "attention"]
    environment = os.environ | {"DOGBOOTH_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    figures: Figures = {}
    for side, command, extra in (
        ("ours", ["ours", *ours], ALLOCATOR),  # as `python -m training` sets it itself
        ("diffusers", [str(script), *theirs], {}),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.timed_steps", str(setting.threads), *command],
            env=environment | extra,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
        measured = json.loads(done.stdout.splitlines()[-1])
        first = WARM_UP if len(measured["seconds"]) > WARM_UP else 0
        figures[side] = {
            "s_per_step": statistics.median(measured["seconds"][first:]),
            "processor_s_per_step": statistics.median(measured["processor_seconds"][first:]),
            "fastest_s": min(measured["seconds"][first:]),
            "peak_gib": measured["peak_gib"],
        }
    theirs_, ours_ = figures["diffusers"], figures["ours"]
    figures["speed"] = theirs_["s_per_step"] / ours_["s_per_step"]
    figures["processor"] = theirs_["processor_s_per_step"] / ours_["processor_s_per_step"]
    figures["memory"] = ours_["peak_gib"] / theirs_["peak_gib"]
    return figures


def common(base: Path, output: Path) -> list[str]:
    """Arguments that all of diffusers' scripts take."""
    return [
        *("--pretrained_model_name_or_path", str(base)),
        *("--instance_data_dir", str(PHOTOS)),
        *("--instance_prompt", "a photo of rex dog"),
        *("--mixed_precision", "bf16"),
        *("--learning_rate", "2e-4"),
        *("--output_dir", str(output)),
        *("--seed", "0"),
    ]


def prepare(folder: Path, resolution: int) -> Path:
    """The photos as our trainer takes them."""
    from data.prepare import prepare_photos
    from data.selection import Settings

    settings = Settings(crops=("whole",), resolution=resolution, min_side=1)
    prepare_photos(PHOTOS, folder / "rex", "rex", "dog", settings)
    return folder / "rex"


def find_examples() -> Path | None:
    """diffusers' examples/dreambooth, where DIFFUSERS_EXAMPLES names it."""
    named = os.environ.get(EXAMPLES)
    return Path(named) if named else None


def skipped(must: str) -> Figures:
    """What stands in the table where there is nothing to compare with."""
    return {"must": must, "holds": True, "skipped": f"set {EXAMPLES} to examples/dreambooth"}
