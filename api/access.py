"""Says of every route who may ask: `caller: Artist`, or `dependencies=[requires("artist")]`.

A key comes as `Authorization: Bearer dogbooth_…`; clients that know user and password only may send
it as the password of Basic. Without a key, who comes from this machine may do everything as long as
no key was ever made, and anyone what DOGBOOTH_ALLOW_ANONYMOUS says.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from api.keys import Caller, Quota, Role
from api.service import Service, ServiceDependency
from models.errors import ModelsError

bearer = HTTPBearer(
    scheme_name="key",
    description="A key of `python -m api keys create`. Not needed on this machine as long as "
    "there is none.",
    auto_error=False,
)


NO_KEY = "none"
"""What clients send that cannot go without a key, as OpenAI's and Postman; it counts as none."""


class NotAuthenticated(ModelsError):
    """No key where one is needed, or one that is not valid."""

    code = "not_authenticated"


class Forbidden(ModelsError):
    """The key's role does not include this."""

    code = "forbidden"


def check_owner(caller: Caller, client: str, what: str) -> None:
    """Raise Forbidden where `what` was made by another `client`, and `caller` is no admin."""
    if not caller.owns(client):
        raise Forbidden(f"the {what} is another client's: this needs an admin")


def requires(role: Role) -> Any:
    """The dependency of a route that asks for `role`; gives the Caller.

    Raises NotAuthenticated, Forbidden or LimitReached. One of these a route: each counts a request.
    """
    return Depends(_check(role))


def _check(role: Role) -> Callable[..., Awaitable[Caller]]:
    async def check_role(
        request: Request,
        service: ServiceDependency,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    ) -> Caller:
        caller = await to_thread.run_sync(identify, request, service, limiter=service.identifying)
        request.state.caller = caller
        service.limits.count_request(caller)
        if not caller.may(role):
            who = f"the key {caller.name!r}" if caller.name else "who comes without a key"
            raise Forbidden(f"{who} has the role {caller.role}: this needs {role}")
        return caller

    return check_role


Viewer = Annotated[Caller, requires("viewer")]
Artist = Annotated[Caller, requires("artist")]
Trainer = Annotated[Caller, requires("trainer")]
Admin = Annotated[Caller, requires("admin")]


def identify(request: Request, service: Service) -> Caller:
    """Who sent `request`; asks the database, so it is for a thread. Raises NotAuthenticated."""
    settings = service.settings
    default = Quota(
        settings.requests_per_minute, settings.pixel_steps_per_day, settings.concurrent_jobs
    )
    header = request.headers.get("authorization")
    sent = None if header is None else _key_in(header)
    if sent is not None and sent != NO_KEY:
        key = service.keys.find(sent)
        if key is None:
            raise NotAuthenticated("the key is not valid: it is unknown, misspelt or revoked")
        own = {name: getattr(key, name) or value for name, value in vars(default).items()}
        return Caller(f"key:{key.id}", key.role, Quota(**own), key.name)  # type: ignore[arg-type]
    address = request.client.host if request.client else ""
    if _from_this_machine(address, request.url.hostname or "") and not service.keys.exist():
        return Caller(address, "admin", default)
    if settings.allow_anonymous is not None:
        return Caller(address, settings.allow_anonymous, default)
    raise NotAuthenticated("a key is needed: Authorization: Bearer …; `python -m api keys create`")


def _key_in(header: str) -> str:
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return value.strip() if scheme.lower() == "bearer" else ""


def _from_this_machine(address: str, host: str) -> bool:
    """Also by the Host header: a web page elsewhere may have its name point to this machine."""
    return _is_loopback(address) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
