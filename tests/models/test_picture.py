import io
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ExifTags, Image

import models
from models.picture import MEDIA_TYPES, PictureFormat, encode, parameters_text
from models.requests import ResolvedRequest

REQUEST = ResolvedRequest(
    "un perro en la playa",
    (1,),
    "dogbooth-breeds",
    steps=25,
    guidance_scale=4.0,
    scheduler="dpmpp_2m_karras",
    width=128,
    height=96,
)
IMAGE = Image.new("RGB", (16, 16), (200, 120, 40))


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert models.__version__ == project["project"]["version"]


def test_the_text_has_the_a1111_form() -> None:
    assert parameters_text(REQUEST, 42) == (
        "un perro en la playa\n"
        "Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 4, Seed: 42, Size: 128x96, "
        f"Model: dogbooth-breeds, Version: dogbooth {models.__version__}"
    )


def test_the_text_tells_of_an_enlarged_picture() -> None:
    assert "Size: 128x96, Hires upscale: 2, " in parameters_text(replace(REQUEST, upscale=2), 42)


@pytest.mark.parametrize("text", ["a dog", "un niño y su perro", "犬 🐕"])
def test_a_png_carries_any_text(text: str) -> None:
    assert Image.open(io.BytesIO(encode(IMAGE, "png", text))).text == {"parameters": text}


@pytest.mark.parametrize("picture_format", ["jpeg", "webp"])
def test_jpeg_and_webp_carry_the_text_in_exif(picture_format: PictureFormat) -> None:
    picture = Image.open(io.BytesIO(encode(IMAGE, picture_format, "犬 🐕")))
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment == b"UNICODE\0" + "犬 🐕".encode("utf-16-be")


@pytest.mark.parametrize("picture_format", MEDIA_TYPES)
def test_encoding_gives_the_same_bytes_each_time(picture_format: PictureFormat) -> None:
    data = encode(IMAGE, picture_format, "a dog")
    assert data == encode(IMAGE.copy(), picture_format, "a dog")
    assert Image.open(io.BytesIO(data)).format == picture_format.upper()
