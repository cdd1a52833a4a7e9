"""Diffusers folders: foreign ones are checked and written anew, field by field."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import diffusers
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from models.errors import ModelRefused
from models.formats.components import (
    CLASSES,
    LIBRARIES,
    MAX_JSON,
    PARTS,
    WEIGHTS,
    Components,
    check_shapes,
    check_together,
    make_scheduler,
    modern_name,
    read_components,
    read_json,
    read_tokenizer,
)
from models.formats.tensor_file import TensorFile, open_tensors
from models.manifest import PIPELINE_FILE
from models.upscaler import copy_upscaler

SCHEDULER_FILE = "scheduler_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "vocab.json",
)
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
TOKENIZER_FIELDS = (
    "add_prefix_space",
    "added_tokens_decoder",
    "backend",
    "bos_token",
    "clean_up_tokenization_spaces",
    "do_lower_case",
    "eos_token",
    "errors",
    "model_max_length",
    "pad_token",
    "unk_token",
)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def inspect_folder(source: Path) -> Components:
    """The parts of the pipeline in `source`, known classes that can draw with one another.

    Raises ModelRefused, which names the file in `source` and what is wrong with it.
    """
    index = read_json(source / PIPELINE_FILE, PIPELINE_FILE)
    name = index.get("_class_name")
    if name != StableDiffusionPipeline.__name__:
        raise ModelRefused(f"{PIPELINE_FILE}: the pipeline class {name!r:.80} is not supported")
    for part in PARTS:
        wanted = [LIBRARIES[part], CLASSES[part].__name__]
        if index.get(part) != wanted:
            raise ModelRefused(f"{PIPELINE_FILE}: {part} {index.get(part)!r:.80}: not {wanted}")
    components = read_components(source)
    check_together(components)
    return components


def take_folder(source: Path, components: Components, target: Path) -> None:
    """Write the pipeline in `source` to `target`: known fields and safetensors, nothing else.

    `components` are what inspect_folder found. A safety checker and an upscaler are left out.
    Raises ModelRefused; `target` is then to be thrown away.
    """
    label = f"scheduler/{SCHEDULER_FILE}"
    scheduler = make_scheduler(read_json(source / label, label), label)
    write_configs(components, type(scheduler).__name__, target)
    scheduler.save_config(target / "scheduler")
    _take_tokenizer(source / "tokenizer", target / "tokenizer")
    read_tokenizer(target, components)
    for part in PARTS:
        file = open_weights(source, part)
        check_shapes(part, file.shapes, components.part(part), file.label)
        shutil.copyfile(file.path, target / part / WEIGHTS[part])


def open_weights(folder: Path, part: str) -> TensorFile:
    """The header of one part's weights; raises ModelRefused where there are none."""
    plain = WEIGHTS[part]
    for name in (plain, plain.replace(".safetensors", ".fp16.safetensors")):
        if (folder / part / name).is_file():
            return open_tensors(folder / part / name, f"{part}/{name}")
    found = sorted(path.name for path in (folder / part).glob("*") if path.suffix in PICKLES)
    if found:
        raise ModelRefused(f"{part}/{found[0]}: may be a pickle; only safetensors are read")
    raise ModelRefused(f"{part}/{plain}: is missing")


def read_states(folder: Path) -> dict[str, dict[str, Tensor]]:
    """All weights of a pipeline by part and by the name that the libraries give them today."""
    return {
        part: {
            modern_name(part, name): value
            for name, value in open_weights(folder, part).load().items()
            if "position_ids" not in name
        }
        for part in PARTS
    }


def write_configs(components: Components, scheduler: str, target: Path) -> None:
    """The pipeline's index, which names the class of its scheduler, and its parts' configs."""
    for part in PARTS:
        (target / part).mkdir()
    components.unet.save_config(target / "unet")
    components.vae.save_config(target / "vae")
    text = components.text_encoder.config.to_dict()
    # transformers loads the dtype of the config, diffusers fp32: together they could not draw.
    text |= {"architectures": [CLASSES["text_encoder"].__name__], "dtype": "float32"}
    write_json(target / "text_encoder" / "config.json", text)
    index = {part: [LIBRARIES[part], CLASSES[part].__name__] for part in PARTS}
    write_json(
        target / PIPELINE_FILE,
        {
            "_class_name": StableDiffusionPipeline.__name__,
            "_diffusers_version": diffusers.__version__,
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", scheduler],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            **index,
        },
    )


def copy_frame(source: Path, target: Path) -> None:
    """All of a published pipeline but its weights and its manifest."""
    shutil.copyfile(source / PIPELINE_FILE, target / PIPELINE_FILE)
    for part in PARTS:
        (target / part).mkdir()
        shutil.copyfile(source / part / "config.json", target / part / "config.json")
    for folder in ("scheduler", "tokenizer"):
        shutil.copytree(source / folder, target / folder)
    copy_upscaler(source, target)


def write_weights(states: Mapping[str, Mapping[str, Tensor]], target: Path) -> None:
    """The weights of each part, in their own dtypes."""
    for part, state in states.items():
        whole = {name: value.contiguous() for name, value in state.items()}
        save_file(whole, target / part / WEIGHTS[part], metadata={"format": "pt"})


def _take_tokenizer(source: Path, target: Path) -> None:
    target.mkdir()
    if not any(all((source / name).is_file() for name in names) for names in VOCABULARIES):
        raise ModelRefused("tokenizer: has neither tokenizer.json nor vocab.json and merges.txt")
    for name in TOKENIZER_FILES:
        path = source / name
        if not path.is_file():
            continue
        if path.stat().st_size > MAX_JSON:
            raise ModelRefused(f"tokenizer/{name}: has more than {MAX_JSON // 2**20} MiB")
        if path.suffix == ".json":
            read_json(path, f"tokenizer/{name}")
        shutil.copyfile(path, target / name)
    config = read_json(source / TOKENIZER_CONFIG, f"tokenizer/{TOKENIZER_CONFIG}")
    kept = {name: config[name] for name in TOKENIZER_FIELDS if name in config}
    write_json(target / TOKENIZER_CONFIG, {**kept, "tokenizer_class": "CLIPTokenizer"})


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write one JSON object."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
