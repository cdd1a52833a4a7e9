"""Serves the pictures that were made."""

import pathlib
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Path
from fastapi.responses import FileResponse, Response

from api.access import Artist, Forbidden, requires
from api.errors import documented
from api.service import Service, ServiceDependency
from models.picture import MEDIA_TYPES, PictureFormat

router = APIRouter(tags=["pictures"])

PICTURE_CONTENT = {
    media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
}

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""For browsers, not for caches that several clients share."""
PictureId = Annotated[
    str,
    Path(
        alias="id",
        description="From an answer of `POST /generate`.",
        examples=["5d41402abc4b2a76b9719d911017c592"],
    ),
]


@router.get(
    "/images/{id}",
    summary="Get a picture",
    dependencies=[requires("viewer")],
    response_class=FileResponse,
    responses={
        200: {"description": "The file.", "content": PICTURE_CONTENT},
        304: {"description": "The client's copy (If-None-Match) is the picture."},
        **documented(404, 422),
    },
)
def get_image(
    picture_id: PictureId,
    service: ServiceDependency,
    if_none_match: Annotated[
        str | None, Header(description="ETag of the copy the client has.", examples=['"5d41402a"'])
    ] = None,
) -> Response:
    """The file as it was made; it never changes, so it may be cached for ever."""
    path, picture_format = _find(picture_id, service)
    headers = {"ETag": f'"{picture_id}"', "Cache-Control": CACHE_CONTROL}
    copies = {tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")}
    if copies & {headers["ETag"], "*"}:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[picture_format],
        filename=path.name,
        content_disposition_type="inline",
        headers=headers,
    )


@router.delete(
    "/images/{id}", summary="Remove a picture", status_code=204, responses=documented(404, 422)
)
async def delete_image(caller: Artist, picture_id: PictureId, service: ServiceDependency) -> None:
    """Removes the file, and the picture from the answers of the generations that made it.

    For the one client that made it, or an admin.
    """
    await to_thread.run_sync(_find, picture_id, service)
    owners = await to_thread.run_sync(service.retention.owners, picture_id)
    if caller.role != "admin" and owners != {caller.client}:
        raise Forbidden("the picture is another client's too: this needs an admin")
    for generation_id in await to_thread.run_sync(service.retention.remove_picture, picture_id):
        service.generations.forget(generation_id)


def _find(picture_id: str, service: Service) -> tuple[pathlib.Path, PictureFormat]:
    found = service.pictures.find(picture_id)
    if found is None:
        raise HTTPException(404, f"no picture has the id {picture_id[:80]!r}")
    return found
