"""What a text encoder reads beside each picture: names, views and places in two languages."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from data.breeds import BREEDS
from data.captions import with_article
from data.classes import DOGS, PhotoClass
from data.scenes import SCENES
from training.text import without_accents

WHOLE_BODY = ("full-body", "cuerpo entero")
PLACES = (
    ("on the beach", "en la playa"),
    ("in the snow", "en la nieve"),
    ("in the park", "en el parque"),
    ("at home", "en casa"),
)


def training_captions(
    captions_of: Callable[[str], dict[str, list[str]]],
    crop: str,
    languages: Sequence[str] = ("en", "es"),
) -> list[str]:
    """What a trainer says of one picture: all `languages`, with and without accents.

    `captions_of(crop)` is a subject's captions, as `data.captions` makes them. Heads go by
    close-up captions and by the plain ones (what people write first should give what a small base
    draws best); boxes go by the ones that say that the whole animal is there.
    """
    chosen: list[str] = []
    for language in languages:
        boxes = captions_of("box")[language]
        plain = [text for text in boxes if not any(word in text for word in WHOLE_BODY)]
        if crop == "portrait":
            chosen += captions_of("portrait")[language] + plain
        elif crop == "box":
            chosen += [text for text in boxes if text not in plain]
        else:
            chosen += captions_of(crop)[language]
    return with_bare_letters(chosen)


def base_captions(
    name: str, spanish: str, crop: str, scene: str = "", shown: PhotoClass = DOGS
) -> list[str]:
    """Every caption of one breed for pretraining; half of them tell a `scene` that is known.

    Words for other places stand behind some captions at random: so they learn to change nothing.
    """
    captions_of = partial(shown.captions, name, spanish)
    texts = training_captions(captions_of, crop)
    if scene:
        for language, place in zip(("en", "es"), SCENES[scene], strict=True):
            texts += [
                f"{text} {place}" for text in training_captions(captions_of, crop, (language,))
            ]
    if crop == "portrait":
        texts += [name, spanish]
        for place, place_es in PLACES:
            english, own = f"a photo of {with_article(name)}", f"un {shown.spanish} {spanish}"
            texts += [f"{english} {place}", f"{own} {place_es}"]
    return with_bare_letters(texts)


def breed_captions(known: Sequence[str]) -> list[list[str]]:
    """Every caption that a base of these breeds of dogs was taught: a group for each, and one for
    dogs that no breed is told of. The first of a group is a plain one; unknown names have none."""
    names = [(breed.name, breed.spanish) for breed in BREEDS if breed.name in known]
    if not names:
        return []
    views = [*(("portrait", scene) for scene in SCENES), ("box", "")]
    return [
        list(
            dict.fromkeys(
                [f"a photo of {with_article(name)}"]
                + [text for view in views for text in base_captions(name, spanish, *view)]
            )
        )
        for name, spanish in [*names, (DOGS.word, DOGS.spanish)]
    ]


def with_bare_letters(texts: list[str]) -> list[str]:
    """`texts` and the same without accents, each once."""
    return list(dict.fromkeys(texts + [without_accents(text) for text in texts]))


def tokenise(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids `[len(texts), window]`, padded and cut as the pipeline does it."""
    ids: Tensor = tokenizer(
        texts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return ids


class CaptionTable:
    """All captions of all rows as token ids, to draw from at each step."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        rows: list[tuple[str, str, str, str]],
        empty: float,
        generic: float,
        shown: PhotoClass = DOGS,
    ) -> None:
        """`rows` are (breed, breed_es, crop, scene); a share `empty` of the draws is "" and a share
        `generic` names the class only."""
        kinds = sorted(set(rows))
        self.kind_of_row = torch.tensor([kinds.index(row) for row in rows])
        self.named = [tokenise(tokenizer, base_captions(*kind, shown)) for kind in kinds]
        self.generic = [
            tokenise(tokenizer, base_captions(shown.word, shown.spanish, crop, scene, shown))
            for *_, crop, scene in kinds
        ]
        self.nothing = tokenise(tokenizer, [""])
        self.empty_share, self.generic_share = empty, generic

    def token_ids(self) -> Tensor:
        """Every token id that some caption holds, each once."""
        ids: Tensor = torch.cat([*self.named, *self.generic, self.nothing]).unique()
        return ids

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One caption `[B, window]` for each of `rows` `[B]`."""
        drawn = []
        shares = torch.rand(len(rows), generator=generator).tolist()
        for kind, share in zip(self.kind_of_row[rows].tolist(), shares, strict=True):
            if share < self.empty_share:
                table = self.nothing
            elif share < self.empty_share + self.generic_share:
                table = self.generic[kind]
            else:
                table = self.named[kind]
            drawn.append(table[torch.randint(len(table), (), generator=generator)])
        return torch.stack(drawn)
