"""Files of every kind, opened as upright RGB or refused with a reason."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.photos import UnusablePhoto, open_photo


def reason(path):
    with pytest.raises(UnusablePhoto) as error:
        open_photo(path)
    return error.value.reason


def rgb_png_16_bits(path, pixel):
    """Pillow cannot write 16-bit RGB."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    row = b"\0" + struct.pack(">3H", *pixel) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row * 8))
        + chunk(b"IEND", b"")
    )


def test_an_ordinary_photo_opens_as_it_is(tmp_path, dog):
    dog().save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png")
    assert photo.orientation == 1
    assert np.array_equal(photo.image, dog())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".DS_Store", b"\0\0\0\1Bud1\0"),
        ("notes.txt", b"hello"),
        ("empty.jpg", b""),
        ("a.jpg", b"GIF"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name) == "not a picture"


def test_a_folder_or_nothing_is_refused(tmp_path):
    assert reason(tmp_path) == "not a file"
    assert reason(tmp_path / "nothing.jpg") == "not a file"


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_a_truncated_picture_is_refused(tmp_path, dog, kind):
    path = tmp_path / f"a.{kind}"
    dog().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) in ("truncated or damaged picture", "not a picture")


def test_a_png_with_damaged_bytes_is_refused(tmp_path, dog):
    path = tmp_path / "a.png"
    dog().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    assert reason(path) == "truncated or damaged picture"


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    image = open_photo(tmp_path / "a.jpg").image
    assert image.mode == "RGB"
    assert np.allclose(image.getpixel((4, 4)), (255, 0, 0), atol=4)


def test_a_palette_becomes_rgb(tmp_path, dog):
    dog().quantize(32).save(tmp_path / "a.png")
    image = open_photo(tmp_path / "a.png").image
    assert image.mode == "RGB"
    assert np.array_equal(image, dog().quantize(32).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.save(tmp_path / "a.png", transparency=1)
    else:
        Image.new(mode, (8, 8), 0).save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png").image.getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / f"a.{kind}")
    assert open_photo(tmp_path / f"a.{kind}").image.getpixel((4, 4)) == (127, 127, 127)


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    rgb_png_16_bits(tmp_path / "a.png", (65535, 32768, 256))
    assert np.allclose(open_photo(tmp_path / "a.png").image.getpixel((4, 4)), (255, 128, 1), atol=1)


@pytest.mark.parametrize("value", [-1, 70000])
def test_more_than_16_bits_are_refused(tmp_path, value):
    Image.fromarray(np.full((8, 8), value, np.int32)).save(tmp_path / "a.tif")
    assert reason(tmp_path / "a.tif") == "unsupported pixel format"


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
    assert reason(tmp_path / "a.tif") == "unsupported pixel format"


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif"])
def test_an_animation_is_refused(tmp_path, dog, kind):
    path = tmp_path / f"a.{kind}"
    dog(seed=1).save(path, save_all=True, append_images=[dog(seed=2)])
    assert reason(path) == "animated picture"


def test_a_phones_jpeg_with_a_second_picture_is_no_animation(tmp_path, dog):
    dog(seed=1).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[dog(seed=2)])
    assert open_photo(tmp_path / "a.jpg").image.size == (160, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, dog, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    dog().save(tmp_path / "a.png", exif=exif)
    photo = open_photo(tmp_path / "a.png")
    assert photo.orientation == orientation
    assert photo.image.size == ((160, 120) if orientation < 5 else (120, 160))
    assert photo.image.getexif().get(0x0112, 1) == 1


def test_a_meaningless_exif_rotation_is_none(tmp_path, dog):
    exif = Image.Exif()
    exif[0x0112] = 42
    dog().save(tmp_path / "a.jpg", exif=exif)
    assert open_photo(tmp_path / "a.jpg").orientation == 1


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, dog, monkeypatch):
    dog().save(tmp_path / "a.png")
    for limit in (15_000, 1_000):  # over the limit, and over twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert reason(tmp_path / "a.png") == "too many pixels"
