from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from models.catalog import Catalog
from models.engine import LocalEngine
from models.heat_maps import HeatMaps, watched
from models.overlay import MAX_WORDS, overlay
from models.prompts import PromptEncoder
from models.requests import GeneratedImage, GenerationRequest
from tests.tiny import tiny_pipeline, tiny_tokenizer

REQUEST = GenerationRequest("a dog", (7,), "tiny", steps=3, guidance_scale=3.0, attention=True)


def drawn(engine: LocalEngine, *requests: GenerationRequest) -> list[GeneratedImage]:
    handles = [engine.submit(request) for request in requests]
    return [handle.result().images[0] for handle in handles]


def heat(
    image: GeneratedImage, word: int = 0
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.asarray(image.attention[word].heat)


def test_maps_of_the_processor_are_the_softmax_of_queries_and_keys() -> None:
    pipeline = tiny_pipeline()
    unet = pipeline.unet
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    text = torch.randn(2, 32, 16)
    caught: list[torch.Tensor] = []
    layer.to_q.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0]))
    watchers = [None, HeatMaps(4, 4)]
    before = unet.attn_processors
    with torch.inference_mode(), watched(unet, watchers):
        unet(torch.randn(2, 4, 4, 4), 5, text)
        query = layer.to_q(caught[0][1]).view(4, layer.heads, -1).transpose(0, 1)
        key = layer.to_k(text[1]).view(32, layer.heads, -1).transpose(0, 1)
    expected = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).mean(0)
    alone = HeatMaps(2, 2)
    alone.add(expected)
    assert unet.attn_processors == before
    [found] = [each for each in watchers if each is not None]
    assert found._count == 4  # the cross-attention layers of this U-Net
    total = found.of_words([("all", range(32))])[0].heat
    assert np.asarray(total) == pytest.approx(1.0, abs=1e-5)
    assert np.asarray(alone.of_words([("x", [3])])[0].heat).shape == (2, 2)


def test_processors_are_put_back_and_nothing_is_added_when_a_call_fails() -> None:
    unet = tiny_pipeline().unet
    before = unet.attn_processors
    watcher = HeatMaps(4, 4)

    def fail(*inputs: object) -> None:
        raise MemoryError

    unet.conv_out.register_forward_hook(fail)
    with pytest.raises(MemoryError), watched(unet, [watcher]):
        unet(torch.randn(1, 4, 4, 4), 5, torch.randn(1, 32, 16))
    assert unet.attn_processors == before
    with pytest.raises(AssertionError, match="no step"):
        watcher.of_words([("dog", [1])])


def test_a_layer_of_lower_resolution_is_scaled_to_the_latents() -> None:
    maps = HeatMaps(2, 4)
    maps.add(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # a layer of 1 x 2 pixels
    [left] = maps.of_words([("left", [0])])
    assert np.asarray(left.heat)[:, 0].tolist() == [1.0, 1.0]
    assert np.asarray(left.heat)[:, 3].tolist() == [0.0, 0.0]


def test_a_picture_is_the_same_whether_it_is_watched_or_not(catalog: Catalog) -> None:
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    [watched_one] = drawn(engine, REQUEST)
    [other] = drawn(engine, replace(REQUEST, attention=False))
    engine.close()
    assert watched_one.image.tobytes() == other.image.tobytes()
    assert [each.word for each in watched_one.attention] == ["a", "dog"]
    assert other.attention == ()


def test_in_one_batch_each_row_has_its_own_maps_and_adapter(catalog: Catalog) -> None:
    requests = [
        REQUEST,
        replace(REQUEST, model="rex"),
        replace(REQUEST, prompt="one dog", attention=False),
        replace(REQUEST, guidance_scale=1.0),
    ]
    engine = LocalEngine(catalog, "cpu", "fp32", threads=1)
    together = drawn(engine, *requests)
    alone = [drawn(engine, request)[0] for request in requests]
    engine.close()
    for one, other in zip(together, alone, strict=True):
        assert [each.word for each in one.attention] == [each.word for each in other.attention]
        for word in range(len(one.attention)):
            assert heat(one, word) == pytest.approx(heat(other, word), abs=1e-4)
    assert np.abs(heat(together[0], 1) - heat(together[1], 1)).max() > 1e-3


def test_words_are_found_behind_weights_in_every_chunk_and_without_punctuation() -> None:
    pipeline = tiny_pipeline()
    encoder = PromptEncoder(tiny_tokenizer(), pipeline.text_encoder)
    assert encoder.words("a (dog:1.3), ok") == [("a", [1]), ("dog", [2, 3, 4]), ("ok", [6, 7])]
    long = encoder.words("abcdefghijklmnopqrstuvwxyzabc de fgh")
    assert long[1:] == [("de", [30, 33]), ("fgh", [34, 35, 36])]


def test_only_the_first_words_of_a_long_prompt_are_kept() -> None:
    maps = HeatMaps(2, 2)
    maps.add(torch.full((4, 99), 1 / 99))
    words = [(f"word{number}", [number]) for number in range(90)]
    assert len(maps.of_words(words)) == MAX_WORDS


def test_an_overlay_is_bright_where_the_map_is_high() -> None:
    picture = Image.new("RGB", (32, 32), (90, 90, 90))
    values = np.zeros((4, 4), dtype=np.float32)
    values[0, 0] = 0.3
    shown = np.asarray(overlay(picture, Image.fromarray(values)).convert("L"))
    assert shown.shape == (32, 32)
    assert shown[2, 2] > shown[30, 30] + 60
