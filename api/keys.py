"""API keys: who may do what. Of a key's secret, the database holds the hash alone."""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Literal, get_args

from sqlalchemy import select, update

from api.database.connection import Database
from api.database.tables import ApiKey

Role = Literal["viewer", "artist", "trainer", "admin"]
"""Each may do what the ones before it may."""
ROLES: tuple[Role, ...] = get_args(Role)
KEY_PATTERN = re.compile(r"dogbooth_([0-9a-f]{16})_([\w-]{43})", re.ASCII)
NAME_PATTERN = re.compile(r"[\w.@-][\w.@ -]{0,63}")
SEEN_EVERY = timedelta(minutes=1)
"""How exact `ApiKey.used` is: not every request is worth a write."""


class KeyRefused(ValueError):
    """A key cannot be made or revoked as asked; names the value."""


@dataclass(frozen=True)
class Quota:
    """What one client may ask for at most; None: no bound."""

    requests_per_minute: int | None = None
    pixel_steps_per_day: int | None = None
    """Width times height times steps, over all pictures."""
    concurrent_jobs: int | None = None
    """Generations and trainings that wait or run."""


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    client: str
    """`key:<id>`, or the address of who comes without one; the engine takes turns over these."""
    role: Role
    quota: Quota
    name: str | None = None
    """Of the key."""

    def may(self, role: Role) -> bool:
        """Whether this caller's role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def owns(self, client: str) -> bool:
        """Whether this caller may change what `client` made."""
        return self.role == "admin" or self.client == client


class Keys:
    """The keys of one database. All methods block: they are for threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, role: str, quota: Quota) -> str:
        """The new key, which is shown this once. Raises KeyRefused."""
        if NAME_PATTERN.fullmatch(name) is None:
            raise KeyRefused(f"name {name!r}: 1 to 64 letters, digits and . _ @ - or blanks")
        if role not in ROLES:
            raise KeyRefused(f"role {role!r}: one of {', '.join(ROLES)}")
        for field, value in vars(quota).items():
            if value is not None and not 0 < value < 2**63:
                raise KeyRefused(f"{field} {value}: must be above 0")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with self._database.write() as session:
            if session.scalar(select(ApiKey).where(ApiKey.name == name)) is not None:
                raise KeyRefused(f"name {name!r}: another key has it, or had it before")
            session.add(
                ApiKey(
                    id=key_id,
                    name=name,
                    role=role,
                    secret_hash=_hash(secret),
                    created=datetime.now(UTC),
                    **vars(quota),
                )
            )
        return f"dogbooth_{key_id}_{secret}"

    def all(self) -> list[ApiKey]:
        """Revoked ones too, the oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created, ApiKey.id)))

    def revoke(self, name: str) -> None:
        """Refuse the key of that name from now on. Raises KeyRefused."""
        with self._database.write() as session:
            row = session.scalar(select(ApiKey).where(ApiKey.name == name))
            if row is None:
                raise KeyRefused(f"name {name!r}: no key has it")
            row.revoked = row.revoked or datetime.now(UTC)

    def exist(self) -> bool:
        """Whether a key was ever made: revoking the last one does not open the service."""
        with self._database.read() as session:
            return session.scalar(select(ApiKey.id).limit(1)) is not None

    def find(self, key: str) -> ApiKey | None:
        """The row of a key that is valid."""
        parts = KEY_PATTERN.fullmatch(key)
        if parts is None:
            return None
        with self._database.read() as session:
            row = session.get(ApiKey, parts[1])
        # The secret has 256 random bits: a slow hash would only slow every request down.
        if row is None or not compare_digest(row.secret_hash, _hash(parts[2])) or row.revoked:
            return None
        now = datetime.now(UTC)
        if row.used is None or now - row.used > SEEN_EVERY:
            with self._database.write() as session:
                session.execute(update(ApiKey).where(ApiKey.id == row.id).values(used=now))
        return row


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
