"""Reads from a request's headers how it wants to be answered."""

import re

from fastapi import HTTPException

from models.picture import MEDIA_TYPES, PictureFormat

FORMATS: dict[str, PictureFormat] = {media: name for name, media in MEDIA_TYPES.items()}
JSON_RANGES = ("*/*", "application/*", "application/json")


def picture_answer(accept: str, asked: PictureFormat | None, n: int) -> PictureFormat | None:
    """The format to answer with, or None for JSON; raises 406 where nothing suits.

    The client's most wanted type wins, the first one named among equals (RFC 9110, 12.5.1).
    `asked` and `n` are the request's `format` and number of pictures.
    """
    for media in _by_preference(accept):
        if media in JSON_RANGES:
            return None
        wanted = (asked or "png") if media == "image/*" else FORMATS.get(media)
        if wanted is None:
            continue
        if asked not in (None, wanted):
            raise HTTPException(406, f"format {asked!r}: the Accept header asks for {media}")
        if n > 1:
            raise HTTPException(406, f"n {n}: an answer of type {media} holds one picture")
        return wanted
    raise HTTPException(
        406, f"Accept {accept[:80]!r}: one of application/json, {', '.join(FORMATS)}"
    )


def prefers_async(prefer: str) -> bool:
    """Whether a Prefer header asks for an answer before the work is done (RFC 7240, 4.1)."""
    preferences = [part.split(";")[0].strip().lower() for part in prefer.split(",")]
    return "respond-async" in preferences


def _by_preference(accept: str) -> list[str]:
    """The media ranges of an Accept header, most wanted first, refused ones (q=0) left out."""
    ranges = []
    for part in accept.split(","):
        weight = re.search(r";\s*q=(\d(?:\.\d*)?)", part)
        quality = float(weight[1]) if weight else 1.0
        if quality > 0:
            ranges.append((quality, part.split(";")[0].strip().lower()))
    return [media for _, media in sorted(ranges, key=lambda item: -item[0])]
