import struct
import zlib

import pytest
from PIL import ExifTags, Image

from api.init_image import MAX_PIXELS, read_init_image
from api.schemas.generate import MAX_IMAGE_BYTES
from models.errors import InvalidRequest
from tests.api.pictures import data_url, file_of


def read(data: bytes, media: str = "image/png", shorter_side: int = 64) -> Image.Image:
    return read_init_image(data_url(data, media), shorter_side)


def refusal(url: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_init_image(url, 64)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_the_three_formats_are_read_as_rgb(file_format: str) -> None:
    image = read(file_of(Image.new("RGB", (40, 24), "red"), file_format), f"image/{file_format}")
    assert (image.mode, image.size) == ("RGB", (40, 24))
    red, green, blue = image.getpixel((20, 12))
    assert red > 240 and green < 15 and blue < 15


def test_a_photo_is_turned_upright_as_its_exif_says() -> None:
    picture = Image.new("RGB", (40, 24), "red")
    picture.paste("blue", (0, 0, 40, 12))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the top of the scene is at the picture's right
    image = read(file_of(picture, "JPEG", exif=exif, quality=95), "image/jpeg")
    assert image.size == (24, 40)
    assert image.getpixel((4, 20))[0] > 200  # what was below is at the left
    assert image.getpixel((20, 20))[2] > 200


def test_cmyk_is_converted() -> None:
    image = read(file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), "image/jpeg")
    red, green, blue = image.getpixel((8, 8))
    assert red > 200 and green < 60 and blue < 60


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    """Pillow's own conversion makes everything above 255 white."""
    image = read(file_of(Image.new("I;16", (8, 8), 0x8000)))
    assert (image.mode, image.getpixel((4, 4))) == ("RGB", (128, 128, 128))


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))])
def test_what_is_transparent_becomes_white(mode: str, colour: tuple[int, ...]) -> None:
    assert read(file_of(Image.new(mode, (8, 8), colour))).getpixel((4, 4)) == (255, 255, 255)


def test_a_palette_with_a_transparent_colour_becomes_white_there() -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (4, 0, 8, 8))
    image = read(file_of(picture, transparency=0))
    assert (image.getpixel((1, 1)), image.getpixel((6, 1))) == ((255, 255, 255), (0, 0, 255))


def test_a_large_picture_shrinks_to_what_a_model_can_use() -> None:
    assert read(file_of(Image.new("RGB", (300, 200))), shorter_side=50).size == (75, 50)
    assert read(file_of(Image.new("RGB", (900, 1))), shorter_side=50).size == (900, 1)


def test_a_phones_jpeg_of_several_frames_is_its_first_one() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    mpo = file_of(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert read(mpo, "image/jpeg").getpixel((8, 8))[0] > 200


def test_a_web_address_is_never_fetched() -> None:
    message = refusal("https://example.com/dog.png")
    assert message.startswith("init_image 'https://example.com/dog.png' is not fetched: send the")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "iVBORw0KGgo=",
        "file:///etc/passwd",
        "data:,hello",
        "data:image/gif;base64,R0lGODlh",
        "data:image/png,%89PNG",
    ],
)
def test_other_addresses_are_refused_saying_what_is_taken(url: str) -> None:
    assert "must begin with one of data:image/png;base64" in refusal(url)


def test_what_is_not_base64_is_refused() -> None:
    assert "is not base64" in refusal("data:image/png;base64,a*b=")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_picture_is_refused(file_format: str) -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    data = file_of(noise, file_format)
    message = refusal(data_url(data[: len(data) // 2], f"image/{file_format.lower()}"))
    assert message.endswith("is no whole PNG, JPEG or WebP picture")


def test_bytes_of_another_kind_are_refused() -> None:
    gif = file_of(Image.new("RGB", (8, 8)), "GIF")
    for data in (b"", b"hello", gif, b"\x89PNG\r\n\x1a\n" + b"\xff" * 50):
        assert refusal(data_url(data)).endswith("is no whole PNG, JPEG or WebP picture")


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_animated_picture_is_refused(file_format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert refusal(data_url(data)).endswith("is animated: send one still picture")


def test_too_many_pixels_are_refused_before_they_are_unpacked() -> None:
    assert f"is 4097x4096: at most {MAX_PIXELS} pixels" in refusal(data_url(bomb(4097, 4096)))
    assert f"has more than {MAX_PIXELS} pixels" in refusal(data_url(bomb(50_000, 50_000)))


def test_too_many_bytes_are_refused() -> None:
    data = b"\0" * (MAX_IMAGE_BYTES + 1)
    assert f"has {MAX_IMAGE_BYTES + 1} bytes: at most" in refusal(data_url(data))
