"""Spans of requests go to a collector, where one is named."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

SERVICE = """
from pathlib import Path
from fastapi.testclient import TestClient
from api.main import create_app
from api.settings import Settings
from models.catalog import Catalog
from tests.api.scripted import ScriptedEngine

app = create_app(Settings(home=Path("{home}")), ScriptedEngine(Catalog([])))
with TestClient(app) as client:
    assert client.get("/breeds").status_code == 200
"""


TAKEN: list[tuple[str, bytes]] = []
"""Paths and bodies of what was sent to the collector."""


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        TAKEN.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base's name
        return


@pytest.fixture
def collector() -> Iterator[str]:
    """Where a collector listens."""
    TAKEN.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_request_becomes_a_span_of_the_collector(collector: str, tmp_path: Path) -> None:
    """In a process of its own: who collects is settled once a process."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_SERVICE_NAME": "dogs"}
    command = [sys.executable, "-c", SERVICE.format(home=tmp_path)]
    subprocess.run(command, env=os.environ | variables, timeout=120, check=True)
    spans = b"".join(body for path, body in TAKEN if path == "/v1/traces")
    assert b"GET /breeds" in spans and b"dogs" in spans
    assert {path for path, _ in TAKEN} <= {"/v1/traces", "/v1/metrics"}
