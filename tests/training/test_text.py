from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from training.captioning import CaptionTable, base_captions, tokenise
from training.text import (
    TextConfig,
    build_text_encoder,
    spread_unseen_tokens,
    train_tokenizer,
    without_accents,
)

TEXTS = [
    text
    for name, spanish in (("German shepherd", "pastor alemán"), ("beagle", "beagle"))
    for text in base_captions(name, spanish, "portrait")
]
CONFIG = TextConfig(vocabulary=700, window=16, width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(TEXTS, CONFIG)


def test_every_token_id_has_an_embedding(tokenizer: CLIPTokenizer) -> None:
    """Guards against holes in the vocabulary: the largest id must be the length minus one."""
    ids = sorted(tokenizer.get_vocab().values())
    assert ids == list(range(len(tokenizer)))
    encoder = build_text_encoder(tokenizer, CONFIG)
    token_ids = tokenise(tokenizer, ["un perro 日本 ñandú 🐶 " + "beagle " * 40])
    assert encoder(token_ids).last_hidden_state.shape == (1, 16, 16)


def test_the_same_texts_give_the_same_ids(tokenizer: CLIPTokenizer) -> None:
    """A resumed run trains its tokenizer again; with other ids its text encoder reads nonsense."""
    assert train_tokenizer(TEXTS, CONFIG).get_vocab() == tokenizer.get_vocab()


def test_trained_words_are_single_tokens(tokenizer: CLIPTokenizer) -> None:
    assert len(tokenizer.tokenize("a photo of a german shepherd")) == 6


def test_a_saved_tokenizer_reads_the_same(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "un perro pastor alemán en la nieve"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == 16


def test_captions_come_in_both_languages_with_and_without_accents() -> None:
    assert "un perro pastor alemán" in TEXTS
    assert "un perro pastor aleman" in TEXTS
    assert "a photo of a German shepherd" in TEXTS
    assert without_accents("bóxer ñu") == "boxer nu"


def test_whole_dogs_are_only_named_as_such() -> None:
    texts = base_captions("beagle", "beagle", "box")
    assert all("full-body" in text or "cuerpo entero" in text for text in texts)


def test_half_of_the_captions_tell_a_scene_that_is_known() -> None:
    texts = base_captions("pug", "carlino", "box", "dark")
    told = [text for text in texts if "dark background" in text or "fondo oscuro" in text]
    assert len(told) == len(texts) / 2
    assert "a full-body photo of a pug on a dark background" in told
    assert "una foto de cuerpo entero de un carlino sobre un fondo oscuro" in told
    assert not any("dark" in text for text in base_captions("pug", "carlino", "box"))


def test_draws_keep_their_shares(tokenizer: CLIPTokenizer) -> None:
    rows = [("beagle", "beagle", "portrait", ""), ("pug", "carlino", "portrait", "")]
    table = CaptionTable(tokenizer, rows, empty=0.25, generic=0.25)
    drawn = table.draw(torch.zeros(4000).long(), torch.Generator().manual_seed(0))
    empty = (drawn == tokenise(tokenizer, [""])).all(dim=1).float().mean()
    beagle = tokenizer("beagle", add_special_tokens=False).input_ids[0]
    named = (drawn == beagle).any(dim=1).float().mean()
    assert 0.22 < empty < 0.28
    assert 0.46 < named < 0.54


def test_tokens_that_were_never_seen_get_embeddings_as_large_as_the_others(
    tokenizer: CLIPTokenizer,
) -> None:
    encoder = build_text_encoder(tokenizer, CONFIG)
    rows = [("beagle", "beagle", "portrait", "")]
    seen = CaptionTable(tokenizer, rows, empty=0.1, generic=0.1).token_ids()
    weight = encoder.get_input_embeddings().weight
    with torch.no_grad():
        weight[seen] *= 50
    before = weight.detach().clone()
    spread_unseen_tokens(encoder, seen, seed=0)
    unseen = torch.ones(len(weight), dtype=torch.bool)
    unseen[seen] = False
    assert torch.equal(weight[seen], before[seen])
    assert 0.5 < weight[unseen].std() / weight[seen].std() < 2
    assert tokenizer("shepherd").input_ids[1] not in seen.tolist()
