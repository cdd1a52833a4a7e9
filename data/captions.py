"""Captions in English and Spanish for each kind of crop."""

import re

CLASS_WORDS = {"dog": "perro", "cat": "gato", "puppy": "cachorro", "kitten": "gatito"}
"""Spanish for the class words that have a translation here."""

# {a} is "a golden retriever", {a_class} is "a golden retriever dog".
_ENGLISH = {
    "portrait": (
        "a close-up photo of {a}",
        "a portrait of {a}",
        "a close-up of {a}",
        "a photo of the head of {a}",
        "a portrait of {a_class}",
        "a close-up photo of {a_class}",
    ),
    "box": (
        "a photo of {a}",
        "a full-body photo of {a}",
        "a picture of {a}",
        "{a}",
        "a photo of {a_class}",
        "a picture of {a_class}",
    ),
    "whole": (
        "a photo of {a}",
        "a picture of {a}",
        "a snapshot of {a}",
        "{a}",
        "a photo of {a_class}",
    ),
}
_ENGLISH["bucket"] = _ENGLISH["whole"]
# {un} is "un pastor alemán", {un_clase} is "un perro pastor alemán".
_SPANISH = {
    "portrait": (
        "una foto de primer plano de {un}",
        "un retrato de {un}",
        "un primer plano de {un}",
        "una foto de la cabeza de {un}",
        "un retrato de {un_clase}",
        "una foto de primer plano de {un_clase}",
    ),
    "box": (
        "una foto de {un}",
        "una foto de cuerpo entero de {un}",
        "una imagen de {un}",
        "{un_clase}",
        "una foto de {un_clase}",
        "una imagen de {un_clase}",
    ),
    "whole": (
        "una foto de {un}",
        "una imagen de {un}",
        "una instantánea de {un}",
        "{un_clase}",
        "una foto de {un_clase}",
    ),
}

_SPANISH["bucket"] = _SPANISH["whole"]


def with_article(name: str) -> str:
    """The name after "a" or "an"."""
    vowel = re.match(r"(?!eu|uni|use|one\b)[aeiou]", name, re.IGNORECASE)
    return f"{'an' if vowel else 'a'} {name}"


def _fill(crop: str, english: tuple[str, str], spanish: tuple[str, str]) -> dict[str, list[str]]:
    en = [text.format(a=english[0], a_class=english[1]) for text in _ENGLISH[crop]]
    es = [text.format(un=spanish[0], un_clase=spanish[1]) for text in _SPANISH[crop]]
    return {"en": list(dict.fromkeys(en)), "es": list(dict.fromkeys(es))}


def captions(
    name: str, spanish: str, crop: str, class_word: str = "dog", class_word_es: str = "perro"
) -> dict[str, list[str]]:
    """All captions ("en", "es") of a breed, or of the class itself: `captions("dog", "perro", …)`.

    Args:
        name: English name, "golden retriever".
        spanish: Spanish name, a masculine noun, "pastor alemán".
        crop: "portrait", "box" or "whole".
        class_word: English noun that may follow the name.
        class_word_es: Spanish noun that may precede it.
    """
    has_class = name.casefold().endswith(class_word.casefold())  # "Old English sheepdog"
    has_class_es = spanish.casefold().startswith(class_word_es.casefold())  # "perro esquimal"
    named = name if has_class else f"{name} {class_word}"
    named_es = spanish if has_class_es else f"{class_word_es} {spanish}"
    return _fill(
        crop, (with_article(name), with_article(named)), (f"un {spanish}", f"un {named_es}")
    )


def instance_captions(name: str, class_word: str, crop: str) -> dict[str, list[str]]:
    """All captions ("en", "es") of one animal: "a photo of rex dog", "una foto de rex perro".

    DreamBooth's "a [identifier] [class noun]" (Ruiz et al. 2023, section 3.2).
    """
    instance = f"{name} {class_word}"
    instance_es = f"{name} {CLASS_WORDS.get(class_word, class_word)}"
    return _fill(crop, (instance, instance), (instance_es, instance_es))
