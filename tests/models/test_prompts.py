import pytest
import torch

from models.prompts import PromptEncoder
from tests.tiny import tiny_pipeline


@pytest.fixture
def encoder() -> PromptEncoder:
    pipeline = tiny_pipeline()
    return PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, limit=3)


@torch.no_grad()
def test_a_plain_prompt_is_encoded_as_diffusers_encodes_it(encoder: PromptEncoder) -> None:
    pipeline = tiny_pipeline()
    wanted, unwanted = pipeline.encode_prompt("a dog", "cpu", 1, True, "blurry")
    embeddings = encoder.encode(["blurry", "a dog"], None)
    assert torch.allclose(embeddings, torch.cat([unwanted, wanted]), atol=1e-6)


@torch.no_grad()
def test_a_long_prompt_is_encoded_in_chunks_and_its_end_counts(encoder: PromptEncoder) -> None:
    long = "a golden retriever that runs along the beach"  # one token a letter: two windows of 30
    assert encoder.length(long, "a dog") == 2
    one, other = encoder.encode([long, long + " at night"], None)
    assert one.shape == (64, 16)
    assert torch.equal(one[:32], other[:32])
    assert not torch.allclose(one[32:], other[32:])


@torch.no_grad()
def test_a_short_prompt_beside_a_long_one_is_filled_with_empty_chunks(
    encoder: PromptEncoder,
) -> None:
    short, _ = encoder.encode(["a dog", "x" * 40], None)
    alone, nothing = encoder.encode(["a dog", ""], None)
    assert torch.equal(short, torch.cat([alone, nothing]))


@torch.no_grad()
def test_weights_fade_a_word_out_or_stress_it(encoder: PromptEncoder) -> None:
    plain, faded, gone, stressed, empty = (
        encoder.encode([prompt], None)[0]
        for prompt in ("dog", "(dog:0.5)", "(dog:0)", "(dog:2)", "")
    )
    word = slice(1, 4)  # one token a letter, behind the start
    assert torch.allclose(gone[word], empty[word], atol=1e-6)
    assert torch.allclose(faded[word], (plain[word] + empty[word]) / 2, atol=1e-6)
    assert torch.allclose(stressed[word] - empty[word], 2 * (plain[word] - empty[word]), atol=1e-5)


@torch.no_grad()
def test_embeddings_are_kept_up_to_a_bound(
    encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = PromptEncoder._encode_chunks
    monkeypatch.setattr(
        PromptEncoder, "_encode_chunks", lambda self, c: encoded.append(c) or encode(self, c)
    )
    for prompt in ("a", "b", "a", "c", "a", "d", "a", "b"):
        encoder.encode([prompt], None)
    assert len(encoded) == 5, "a, b, c, d, and b again: only three are kept"
