"""Encodes a picture as PNG, JPEG or WebP with its parameters inside, in the A1111 form."""

import io
from typing import Literal

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from models import __version__
from models.requests import ResolvedRequest
from models.schedulers import SCHEDULERS

PictureFormat = Literal["png", "jpeg", "webp"]
MEDIA_TYPES: dict[PictureFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
TEXT_KEY = "parameters"
UNICODE = b"UNICODE\0"
"""The character code before the text of an EXIF UserComment."""


def parameters_text(request: ResolvedRequest, seed: int) -> str:
    """Prompt, negative prompt and settings as AUTOMATIC1111's web UI writes and reads them."""
    settings = {
        "Steps": request.steps,
        "Sampler": SCHEDULERS[request.scheduler].label,
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": seed,
        "Size": f"{request.width}x{request.height}",
        **({"Hires upscale": request.upscale} if request.upscale > 1 else {}),
        **({"Denoising strength": f"{request.strength:g}"} if request.init_image else {}),
        "Model": request.model,
        "Version": f"dogbooth {__version__}",
    }
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{key}: {value}" for key, value in settings.items()))
    return "\n".join(lines)


def encode(image: Image.Image, picture_format: PictureFormat, parameters: str) -> bytes:
    """The file's bytes; equal pictures and parameters give equal bytes."""
    buffer = io.BytesIO()
    if picture_format == "png":
        info = PngInfo()
        info.add_text(TEXT_KEY, parameters)  # becomes an iTXt chunk where Latin-1 does not do
        image.save(buffer, "PNG", pnginfo=info)
    elif picture_format == "jpeg":
        image.save(buffer, "JPEG", quality=95, subsampling=0, exif=_user_comment(parameters))
    else:
        image.save(buffer, "WEBP", quality=92, exif=_user_comment(parameters))
    return buffer.getvalue()


def read_parameters(image: Image.Image) -> str:
    """The text that `encode`, or the web UI, put into a picture; empty where there is none."""
    text = image.info.get(TEXT_KEY)
    if isinstance(text, str):
        return text
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(UNICODE):
        return comment.removeprefix(UNICODE).decode("utf-16-be", "replace")
    return ""


def _user_comment(text: str) -> bytes:
    """EXIF with `text` as UserComment, the 8-byte character code and big-endian UTF-16."""
    exif = Image.Exif()
    comment = UNICODE + text.encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()
