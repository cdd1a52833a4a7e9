"""What all photos of a dataset show."""

from data.classes import class_in_report, holds_kinds, judged_classes, photo_class


def test_dogs_and_cats_are_known_by_their_word_alone():
    assert 207 in photo_class("dog").imagenet and 281 not in photo_class("dog").imagenet
    assert photo_class("cat").imagenet == (281, 282, 283, 284, 285)
    assert photo_class("cat").spanish == "gato"


def test_another_class_is_what_one_says_of_it():
    assert photo_class("teapot").imagenet == ()
    told = photo_class("horse", "caballo", [339])
    assert (told.spanish, told.imagenet) == ("caballo", (339,))
    assert "una foto de un caballo" in told.captions("horse", "caballo", "whole")["es"]


def test_a_kind_s_captions_name_its_class():
    texts = photo_class("cat").captions("Siamese", "siamés", "box")
    assert "a photo of a Siamese cat" in texts["en"]
    assert "una foto de un gato siamés" in texts["es"]


def test_a_report_tells_its_class_and_one_without_is_of_dogs():
    told = {"class": "cat", "class_es": "gata", "imagenet": [284]}
    found = class_in_report({"arguments": told})
    assert (found.word, found.spanish, found.imagenet) == ("cat", "gata", (284,))
    assert class_in_report({"arguments": {}}).word == "dog"


def test_a_report_of_one_animal_has_its_name():
    assert holds_kinds({"arguments": {"class": "cat"}})
    assert not holds_kinds({"arguments": {"class": "cat", "name": "tom"}})


def test_the_first_known_word_of_a_prompt_says_what_to_look_for():
    assert judged_classes("a photo of a Cat beside a dog") == photo_class("cat").imagenet
    assert judged_classes("a photo of a teapot") == ()
