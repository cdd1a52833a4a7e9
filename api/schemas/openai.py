"""The bodies of OpenAI's Images API, as far as this service can serve them."""

from typing import Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.generate import MAX_IMAGES, Drawing, describe_form
from models.admission import DEFAULT_STRENGTH, MAX_SEED
from models.picture import PictureFormat

MAX_PARTIAL_IMAGES = 3
SIZE_PATTERN = r"^(auto|[1-9]\d{1,3}x[1-9]\d{1,3})$"


class ImageGeneration(Drawing):
    """What to draw, in OpenAI's words, with Stable Diffusion's settings beside them.

    What else OpenAI knows (`quality`, `background`, `style`, `user`, ...) is ignored.
    """

    n: int | None = Field(
        default=1, ge=1, le=MAX_IMAGES, description="How many pictures.", examples=[1]
    )
    size: str | None = Field(
        default="auto",
        pattern=SIZE_PATTERN,
        description="`WIDTHxHEIGHT` in pixels, multiples of what the model needs; `auto`: its "
        "native size. That times its `upscale` is drawn at the native size and enlarged.",
        examples=["128x128"],
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default="b64_json",
        description="The file itself in base64, or where to get it.",
        examples=["b64_json"],
    )
    output_format: PictureFormat | None = Field(
        default="png", description="The file format.", examples=["png"]
    )
    stream: bool | None = Field(
        default=False,
        description="Answer Server-Sent Events: partial pictures, then the whole ones.",
        examples=[False],
    )
    partial_images: int | None = Field(
        default=0,
        ge=0,
        le=MAX_PARTIAL_IMAGES,
        description="With `stream`: how many partial pictures come before each whole one, at most.",
        examples=[2],
    )


def _describe_form(schema: dict[str, Any]) -> None:
    """One of two fields holds the picture."""
    describe_form(schema)
    schema["oneOf"] = [{"required": ["image"]}, {"required": ["image[]"]}]


class ImageEdit(ImageGeneration):
    """A picture to draw anew, as a multipart form."""

    model_config = ConfigDict(
        strict=False,  # a form has strings only
        json_schema_extra=_describe_form,
    )

    image: UploadFile | None = Field(
        default=None,
        description="The picture to start from: a PNG, JPEG or WebP.",
    )
    images: list[UploadFile] = Field(
        default=[],
        max_length=1,
        alias="image[]",
        description="The same where a client sends a list; it holds one picture.",
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="How much is drawn anew, from hardly anything to everything at 1; "
        f"{DEFAULT_STRENGTH} where left out.",
        examples=[0.6],
    )


class OpenAIImage(BaseModel):
    """One picture."""

    b64_json: str | None = Field(
        description="The file in base64, where it was asked for.", examples=["iVBORw0KGgo="]
    )
    url: str | None = Field(
        description="Where to get the file, where that was asked for.",
        examples=["http://127.0.0.1:8000/images/5d41402abc4b2a76b9719d911017c592"],
    )
    seed: int = Field(ge=0, le=MAX_SEED, description="What makes it again.", examples=[42])


class ImagesAnswer(BaseModel):
    """The pictures of one request."""

    created: int = Field(description="Unix time in seconds.", examples=[1767225600])
    data: list[OpenAIImage] = Field(description="In the order of their seeds.")
    background: Literal["opaque"] = Field(
        default="opaque", description="No picture is transparent.", examples=["opaque"]
    )
    output_format: PictureFormat = Field(description="The file format.", examples=["png"])
    size: str = Field(description="`WIDTHxHEIGHT` in pixels.", examples=["128x128"])


class Usage(BaseModel):
    """OpenAI bills tokens; none are counted here."""

    input_tokens: int = 0
    input_tokens_details: dict[str, int] = {"image_tokens": 0, "text_tokens": 0}
    output_tokens: int = 0
    total_tokens: int = 0


class ImageEvent(BaseModel):
    """One event of a stream."""

    type: str
    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int
    output_format: PictureFormat
    quality: Literal["auto"] = "auto"
    size: str


class PartialImage(ImageEvent):
    """What the picture looks like so far."""

    partial_image_index: int


class CompletedImage(ImageEvent):
    """The picture."""

    usage: Usage = Usage()


class OpenAIModel(BaseModel):
    """One model of the catalog."""

    id: str = Field(description="What `model` in a request says.", examples=["dogbooth-breeds"])
    object: Literal["model"] = Field(
        default="model", description="Always `model`.", examples=["model"]
    )
    created: int = Field(description="Unix time in seconds.", examples=[1767225600])
    owned_by: str = Field(default="dogbooth", description="Who serves it.", examples=["dogbooth"])


class OpenAIModelList(BaseModel):
    """What can be asked for."""

    object: Literal["list"] = Field(default="list", description="Always `list`.", examples=["list"])
    data: list[OpenAIModel] = Field(description="By name.")


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str = Field(
        description="For people: names the field and the value.",
        examples=["n 17: Input should be less than or equal to 16"],
    )
    type: str = Field(description="The kind of error.", examples=["invalid_request_error"])
    param: str | None = Field(description="The field that was refused.", examples=["n"])
    code: str = Field(description="For programs: never changes.", examples=["invalid_request"])


class OpenAIErrorAnswer(BaseModel):
    """The shape of OpenAI's errors."""

    error: OpenAIError = Field(description="Its message, type, field and code.")
