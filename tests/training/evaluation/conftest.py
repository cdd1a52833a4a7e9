"""Drawn dogs with official lists, and tiny real CLIP and DINO models."""

from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from data.breeds import find_breeds
from data.prepare import prepare
from data.selection import Settings
from tests.tiny import tiny_tokenizer
from tests.training.conftest import draw_dog

PER_SPLIT = 8


@pytest.fixture(scope="session")
def listed_breeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn breeds at 36 px, two crops each, eight photos in each of the two lists."""
    source = tmp_path_factory.mktemp("listed")
    breeds = find_breeds(["beagle", "pug"])
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for breed in breeds:
        folder = source / "Images" / breed.folder
        folder.mkdir(parents=True)
        for number in range(2 * PER_SPLIT):
            name = f"{breed.synset}_{number}.jpg"
            draw_dog(number + 100 * len(breed.name)).save(folder / name)
            lists["train" if number % 2 else "test"].append(f"{breed.folder}/{name}")
    (source / "lists").mkdir()
    for split, names in lists.items():
        (source / "lists" / f"{split}_list.txt").write_text("\n".join(names) + "\n")
    output = tmp_path_factory.mktemp("data") / "listed"
    settings = Settings(
        breeds=tuple(breeds),
        crops=("portrait", "box"),
        resolution=36,
        min_side=8,
        dedup_distance=None,
    )
    prepare(source, output, settings)
    return output


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights, as `save_pretrained` writes it."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=sizes
        | {
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config=sizes | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    size = {"shortest_edge": 32}
    images = CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of random weights, as DINO's are stored."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    folder = tmp_path_factory.mktemp("dino")
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
