import pytest
import torch

from training.labs.embeddings import (
    Encoder,
    base_encoder,
    contextual,
    cosine,
    main,
    minilm,
    neighbours,
    ranks,
    sentence,
    static,
    word,
)


@pytest.fixture(scope="module", params=[base_encoder, minilm])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    made: Encoder = request.param()
    return made


def test_a_word_is_one_vector_in_the_table_and_another_in_each_sentence(encoder: Encoder) -> None:
    one = word(encoder, "a photo of a beagle on the beach", "beach")
    other = word(encoder, "a beach", "beach")
    assert cosine(static(encoder, "beach"), static(encoder, "beach")) == pytest.approx(1)
    assert 0 < cosine(one, other) < 0.999


def test_a_word_of_several_tokens_is_found_in_its_sentence(encoder: Encoder) -> None:
    tokens, states = contextual(encoder, "a Weimaraner")
    found = word(encoder, "a Weimaraner", "Weimaraner")
    assert torch.allclose(found, states[2 : len(tokens) - 1].mean(0), atol=1e-6)


def test_a_word_that_is_not_there_is_named(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="'cat': not in 'a dog'"):
        word(encoder, "a dog", "cat")


def test_neighbours_are_other_words_the_nearest_first(encoder: Encoder) -> None:
    found = neighbours(encoder, "dog", 6)
    values = [value for _, value in found]
    assert len(found) == 6
    assert values == sorted(values, reverse=True)
    assert "dog" not in [token for token, _ in found]


def test_minilm_knows_that_a_puppy_is_a_dog() -> None:
    encoder = minilm()
    near = cosine(sentence(encoder, "a puppy"), sentence(encoder, "a dog"))
    assert near > cosine(sentence(encoder, "a puppy"), sentence(encoder, "a car"))


def test_a_rank_counts_the_answers_that_are_nearer() -> None:
    answers = torch.eye(3)
    queries = torch.tensor([[1.0, 0.1, 0.0], [0.9, 0.5, 0.0], [0.3, 0.2, 0.1]])
    assert ranks(queries, answers) == [1, 2, 3]


def test_the_command_lists_the_neighbours_in_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--words", "golden, beach"]) == 0
    said = capsys.readouterr().out
    assert said.count("golden: ") == said.count("beach: ") == 2
