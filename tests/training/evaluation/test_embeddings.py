"""CLIP and DINO embeddings on tiny real models."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPModel, ViTModel

from training.config import ConfigError
from training.evaluation.embeddings import BATCH, ClipEmbeddings, DinoEmbeddings, clip_t


def pictures(count: int, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def standardised(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    centre, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return (images / 255 - centre) / scale


def test_clip_embeds_pictures_as_its_own_forward_pass_does(tiny_clip: Path) -> None:
    """More pictures than one batch holds; the constants are CLIP's published ones."""
    images = pictures(BATCH + 1)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    model = CLIPModel.from_pretrained(tiny_clip).eval()
    with torch.no_grad():
        seen = model(
            pixel_values=standardised(images, mean, std), input_ids=torch.tensor([[0, 1]])
        ).image_embeds
    embedded = ClipEmbeddings(str(tiny_clip)).pictures(images)
    assert embedded.shape == (BATCH + 1, 12)
    assert torch.allclose(F.normalize(embedded, dim=1), seen, atol=1e-4)


def test_clip_embeds_a_text_alike_beside_a_longer_one(tiny_clip: Path) -> None:
    clip = ClipEmbeddings(str(tiny_clip))
    alone = clip.texts(["a dog"])
    together = clip.texts(["a dog", "a dog on the beach"])
    assert torch.allclose(alone[0], together[0], atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_dino_gives_the_class_token(tiny_dino: Path) -> None:
    images = pictures(2)
    half = [0.5, 0.5, 0.5]
    with torch.no_grad():
        hidden = ViTModel.from_pretrained(tiny_dino, add_pooling_layer=False)(
            pixel_values=standardised(images, half, half)
        ).last_hidden_state
    assert torch.allclose(DinoEmbeddings(str(tiny_dino)).pictures(images), hidden[:, 0], atol=1e-4)


def test_clip_t_pairs_each_picture_with_its_own_prompt() -> None:
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert clip_t(3 * texts, texts) == pytest.approx(1.0)
    assert clip_t(texts.flip(0), texts) == pytest.approx(0.0)


@pytest.mark.parametrize(("kind", "option"), [(ClipEmbeddings, "clip"), (DinoEmbeddings, "dino")])
def test_a_folder_without_a_model_is_refused_in_one_line(
    kind: type[ClipEmbeddings | DinoEmbeddings], option: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{option}: .*cannot be loaded") as caught:
        kind(str(tmp_path))
    assert "\n" not in str(caught.value)
