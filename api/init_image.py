"""Reads the picture that a request starts from, a data URL whose bytes are trusted in nothing."""

import base64
import binascii
import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps

from api.schemas.generate import MAX_IMAGE_BYTES
from models.errors import InvalidRequest
from models.picture import MEDIA_TYPES

MAX_PIXELS = 4096 * 4096
HEADS = [f"data:{media};base64" for media in MEDIA_TYPES.values()]
UNCHECKED_HEAD = f"{HEADS[0]},"
"""Before the base64 of a file that has no media type of its own; its bytes decide anyway."""


def read_init_image(url: str, shorter_side: int) -> Image.Image:
    """The picture as RGB, upright, its shorter side shrunk to `shorter_side` where it is longer.

    Raises InvalidRequest. Takes up to 0.3 s and 200 MB: for a thread, and not for many at once.
    """
    with open_picture(url) as image:
        image.load()
        picture = _to_rgb(ImageOps.exif_transpose(image))
    scale = shorter_side / min(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


@contextmanager
def open_picture(url: str, field: str = "init_image") -> Iterator[Image.Image]:
    """The picture in a data URL, its pixels not unpacked yet; `field` is who sent it.

    Raises InvalidRequest, also for what the block finds broken.
    """
    try:
        with Image.open(io.BytesIO(_decode(url)), formats=("PNG", "JPEG", "WEBP")) as image:
            _check(image)
            yield image
    except InvalidRequest as error:
        raise _refusal(field, url, str(error)) from error
    except Image.DecompressionBombError as error:
        raise _refusal(field, url, f"has more than {MAX_PIXELS} pixels") from error
    except Exception as error:  # what broken bytes make Pillow raise is no closed set
        raise _refusal(field, url, "is no whole PNG, JPEG or WebP picture") from error


def _decode(url: str) -> bytes:
    """The bytes of a data URL (RFC 2397)."""
    head, _, payload = url.partition(",")
    if head.lower().startswith(("http:", "https:")):
        raise InvalidRequest("is not fetched: send the picture itself, as a file or a data URL")
    if head.lower() not in HEADS:
        raise InvalidRequest(f"must begin with one of {', '.join(HEADS)}, followed by a comma")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"is not base64: {error}") from error
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(f"has {len(data)} bytes: at most {MAX_IMAGE_BYTES}")
    return data


def _check(image: Image.Image) -> None:
    """Refuse by the file's header, before its pixels are unpacked."""
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height}"
        raise InvalidRequest(f"is {size}: at most {MAX_PIXELS} pixels")
    # A JPEG of several frames (MPO) is what phones write: the first one is the photo.
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise InvalidRequest("is animated: send one still picture")


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit grey values scaled, what is transparent laid on white."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _refusal(field: str, url: str, reason: str) -> InvalidRequest:
    shown = url if len(url) <= 60 else f"{url[:60]}..."
    return InvalidRequest(f"{field} {shown!r} {reason}")
