"""CLIP and DINO, where a hub or a local folder gives them: what DreamBooth's paper measures by."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, CLIPModel, CLIPProcessor

from models.errors import first_line
from training.config import ConfigError

BATCH = 16


class ClipEmbeddings:
    """A CLIP model (Radford et al. 2021, arXiv 2103.00020)."""

    def __init__(self, source: str) -> None:
        """Load `source`, a folder or a hub id, from safetensors; ConfigError where that fails."""
        self._model, self._processor = _load("clip", source, CLIPModel, CLIPProcessor)

    @torch.no_grad()
    def pictures(self, pictures: Tensor) -> Tensor:
        """Embeddings `[N, D]` of bytes `[N, 3, H, W]`."""
        return torch.cat(
            [
                self._model.get_image_features(**inputs).pooler_output
                for inputs in _batches(self._processor, pictures)
            ]
        )

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """Embeddings `[N, D]`."""
        inputs = self._processor(text=texts, padding=True, truncation=True, return_tensors="pt")
        embeddings: Tensor = self._model.get_text_features(**inputs).pooler_output
        return embeddings


class DinoEmbeddings:
    """A vision transformer trained by DINO (Caron et al. 2021, arXiv 2104.14294)."""

    def __init__(self, source: str) -> None:
        """Load `source`, a folder or a hub id, from safetensors; ConfigError where that fails."""
        self._model, self._processor = _load("dino", source, AutoModel, AutoImageProcessor)

    @torch.no_grad()
    def pictures(self, pictures: Tensor) -> Tensor:
        """Class-token embeddings `[N, D]` of bytes `[N, 3, H, W]`."""
        return torch.cat(
            [
                self._model(**inputs).last_hidden_state[:, 0]
                for inputs in _batches(self._processor, pictures)
            ]
        )


def clip_t(pictures: Tensor, texts: Tensor) -> float:
    """CLIP-T: mean cosine of picture embeddings `[N, D]` with those `[N, D]` of their prompts."""
    return float(F.cosine_similarity(pictures.double(), texts.double(), dim=1).mean())


def _load(option: str, source: str, model: Any, processor: Any) -> tuple[Any, Any]:
    try:
        loaded = model.from_pretrained(source, use_safetensors=True).eval()
        return loaded, processor.from_pretrained(source)
    except Exception as error:  # a foreign folder can make the library raise anything
        reason = first_line(error)
        raise ConfigError(f"{option}: {source!r} cannot be loaded: {reason}") from error


def _batches(processor: Any, pictures: Tensor) -> Iterator[Any]:
    """What a model takes for bytes `[N, 3, H, W]`, a few at a time."""
    for part in pictures.split(BATCH):
        images = [Image.fromarray(picture) for picture in part.permute(0, 2, 3, 1).numpy()]
        yield processor(images=images, return_tensors="pt")
