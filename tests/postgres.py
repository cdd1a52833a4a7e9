"""A PostgreSQL server of one's own for tests: on loopback, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.ports import free_port


def binaries() -> Path | None:
    """The folder of the newest installed server, as Debian lays it out, or the one on the path."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2])
    )
    found = [folder for folder in folders if (folder / "initdb").exists()]
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def server() -> Iterator[str]:
    """Start a server and give the URL of its first database; skips where none is installed."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    root = Path(tempfile.mkdtemp(prefix="dogbooth-postgres-"))
    as_user: dict[str, Any] = {"cwd": root}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(root, "nobody", "nogroup")
        as_user |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
    port = free_port()
    initdb = [folder / "initdb", "-D", root / "data", "-U", "dogbooth", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, **as_user)
    options = ["-p", str(port), "-k", str(root), "-h", "127.0.0.1", "-F"]
    log = (root / "log").open("wb")
    process = subprocess.Popen(
        [folder / "postgres", "-D", root / "data", *options], stdout=log, stderr=log, **as_user
    )
    url = f"postgresql://dogbooth@127.0.0.1:{port}/postgres"
    try:
        _wait_until_it_answers(url, process, root / "log")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        shutil.rmtree(root)


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """The URL of an empty database on the server, dropped at the end."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            yield server_url.removesuffix("postgres") + name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()) from None
            time.sleep(0.1)
