"""Opens any photo file as upright 8-bit RGB, or says in a few words why it cannot be used."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError


class UnusablePhoto(ValueError):
    """The file cannot be used; `reason` is one of a few fixed phrases, `detail` the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Photo(NamedTuple):
    """A photo turned upright."""

    image: Image.Image
    """8-bit RGB."""
    orientation: int
    """EXIF orientation (1-8) that the file had, and that `image` no longer needs."""


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits as 8 bits: 65535 becomes 255, nothing is clipped."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UnusablePhoto("unsupported pixel format", "more than 16 bits a channel")
    return Image.fromarray((pixels.astype(np.uint32) * 255 // 65535).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB, with transparent parts on white.

    Raises:
        UnusablePhoto: floating-point pixels, or integers of more than 16 bits.
    """
    if image.mode == "F":
        raise UnusablePhoto("unsupported pixel format", "floating point")
    if image.mode.startswith("I"):
        image = _scale_to_8_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def open_photo(path: Path) -> Photo:
    """Reads a file of any kind.

    Raises:
        UnusablePhoto: not a file, not a picture, truncated or damaged, animated, more pixels than
            `Image.MAX_IMAGE_PIXELS`, or pixels that have no meaning in 8-bit RGB.
    """
    if not path.is_file():
        raise UnusablePhoto("not a file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                # A phone's MPO is a JPEG with a preview behind it, no animation.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise UnusablePhoto("animated picture")
                orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
                upright = ImageOps.exif_transpose(image)
                return Photo(to_rgb(upright), orientation if 1 <= orientation <= 8 else 1)
        except UnusablePhoto:
            raise
        except UnidentifiedImageError:
            raise UnusablePhoto("not a picture") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UnusablePhoto("too many pixels", f"over {Image.MAX_IMAGE_PIXELS}") from None
        except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
            raise UnusablePhoto("truncated or damaged picture", str(error)) from error
