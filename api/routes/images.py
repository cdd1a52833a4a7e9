"""Serves the pictures that were made."""

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Path
from fastapi.responses import FileResponse, Response

from api.errors import documented
from api.service import ServiceDependency
from models.picture import MEDIA_TYPES

router = APIRouter(tags=["pictures"])

PICTURE_CONTENT = {
    media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
}


@router.get(
    "/images/{id}",
    summary="Get a picture",
    response_class=FileResponse,
    responses={
        200: {"description": "The file.", "content": PICTURE_CONTENT},
        304: {"description": "The client's copy (If-None-Match) is the picture."},
        **documented(404, 422),
    },
)
def get_image(
    picture_id: Annotated[
        str,
        Path(
            alias="id",
            description="From an answer of `POST /generate`.",
            examples=["5d41402abc4b2a76b9719d911017c592"],
        ),
    ],
    service: ServiceDependency,
    if_none_match: Annotated[
        str | None, Header(description="ETag of the copy the client has.", examples=['"5d41402a"'])
    ] = None,
) -> Response:
    """The file as it was made; it never changes, so it may be cached for ever."""
    found = service.pictures.find(picture_id)
    if found is None:
        raise HTTPException(404, f"no picture has the id {picture_id[:80]!r}")
    path, picture_format = found
    headers = {"ETag": f'"{picture_id}"', "Cache-Control": "public, max-age=31536000, immutable"}
    if headers["ETag"] in (if_none_match or ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[picture_format],
        filename=path.name,
        content_disposition_type="inline",
        headers=headers,
    )
