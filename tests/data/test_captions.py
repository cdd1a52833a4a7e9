"""Captions in English and Spanish."""

import pytest

from data.breeds import BREEDS
from data.captions import captions, instance_captions, with_article
from data.crops import CROPS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pug", "a pug"),
        ("Airedale terrier", "an Airedale terrier"),
        ("otterhound", "an otterhound"),
        ("English setter", "an English setter"),
        ("Eurasier", "a Eurasier"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
    ],
)
def test_the_article_fits_the_name(name, text):
    assert with_article(name) == text


@pytest.mark.parametrize("crop", CROPS)
def test_every_breed_has_several_distinct_captions_for_each_crop(crop):
    for breed in BREEDS:
        texts = captions(breed.name, breed.spanish, crop)
        for language, name in (("en", breed.name), ("es", breed.spanish)):
            assert len(set(texts[language])) == len(texts[language]) >= 4
            assert all(name in text for text in texts[language])


def test_a_portrait_is_called_one_in_both_languages():
    texts = captions("golden retriever", "golden retriever", "portrait")
    assert "a close-up photo of a golden retriever" in texts["en"]
    assert "una foto de primer plano de un golden retriever" in texts["es"]
    assert not any("full-body" in text for text in texts["en"])


def test_the_class_word_follows_in_english_and_precedes_in_spanish():
    texts = captions("German shepherd", "pastor alemán", "box")
    assert "a photo of a German shepherd dog" in texts["en"]
    assert "una foto de un perro pastor alemán" in texts["es"]


def test_the_class_word_is_never_doubled():
    for breed in BREEDS:
        texts = captions(breed.name, breed.spanish, "box")
        assert not any("dog dog" in text for text in texts["en"])
        assert not any("perro perro" in text for text in texts["es"])


def test_captions_of_the_class_itself_name_it_once():
    texts = captions("cat", "gato", "box", class_word="cat", class_word_es="gato")
    assert "a photo of a cat" in texts["en"] and "una foto de un gato" in texts["es"]
    assert all(text.count("cat") == 1 for text in texts["en"])


def test_an_instance_has_name_and_class_without_article():
    texts = instance_captions("rex", "dog", "whole")
    assert "a photo of rex dog" in texts["en"]
    assert "una foto de rex perro" in texts["es"]


def test_a_class_without_translation_keeps_its_word():
    assert "una foto de rex teapot" in instance_captions("rex", "teapot", "whole")["es"]
