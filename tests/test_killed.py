"""The service killed at random moments under load: nothing lost, nothing doubled, all intact."""

import multiprocessing
import random
import threading
import time
from collections import Counter
from hashlib import sha256
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import uvicorn
from sqlalchemy import select, text

from api.database.connection import open_database
from api.database.tables import GenerationImage, GenerationRow, ImageRow
from api.main import create_app
from api.settings import Settings
from tests.ports import free_port

KILLS = 20
CLIENTS = 4
SECONDS = 600.0
"""The whole test's bound."""
AWAY = (httpx.TransportError, httpx.RemoteProtocolError)


def serve(home: str, database_url: str, port: int) -> None:
    """The real service on a tiny model; in a process of its own."""
    settings = Settings(
        home=Path(home),
        database_url=database_url,
        device="cpu",
        dtype="fp32",
        threads=1,
        default_model="tiny",
        allow_anonymous="admin",
        log_level="error",
    )
    uvicorn.run(create_app(settings), host="127.0.0.1", port=port, log_level="critical")


class Client:
    """Asks for one picture after another and does not give up: each is retried under its key."""

    def __init__(self, number: int, address: str, deadline: float) -> None:
        self.http = httpx.Client(base_url=address, timeout=30)
        self.number = number
        self.dice = random.Random(number)
        self.deadline = deadline
        self.accepted: set[str] = set()
        """Ids that were answered 202."""
        self.answers: dict[str, Any] = {}
        """What was told of generations that finished, by prompt."""
        self.failures: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        asked = 0
        while not stop.is_set():
            self.draw(f"a dog {self.number} {asked}")
            asked += 1

    def draw(self, prompt: str) -> None:
        body = {
            "prompt": prompt,
            "steps": self.dice.randint(1, 12),
            "seed": self.dice.randrange(99),
        }
        at_once = self.dice.random() < 0.3
        while prompt not in self.answers:
            assert time.monotonic() < self.deadline, f"{prompt!r} was not drawn in time"
            try:
                answer = self.ask(body, at_once)
            except AWAY:
                time.sleep(0.05)
                continue
            if answer is not None:
                self.answers[prompt] = answer

    def ask(self, body: dict[str, Any], at_once: bool) -> Any:
        """The answer once it has finished; None where it has to be asked for again."""
        key = {"Idempotency-Key": body["prompt"].replace(" ", "-")}
        if at_once:
            made = self.http.post("/generate", json=body, headers=key)
            return made.json() if made.status_code == 200 else self.fail(made.json())
        made = self.http.post("/generations", json=body, headers=key)
        if made.status_code != 202:
            return self.fail(made.json())
        self.accepted.add(made.json()["id"])
        while True:
            state = self.http.get(made.headers["location"]).json()
            if state["state"] in ("finished", "failed", "cancelled"):
                return state["answer"] or self.fail(state)
            time.sleep(0.02)

    def fail(self, said: dict[str, Any]) -> None:
        self.failures[said["error"]["code"]] += 1


def start(home: Path, database_url: str, port: int) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_killed", "models.engine"])
    process = context.Process(target=serve, args=(str(home), database_url, port), daemon=True)
    process.start()
    return process


def wait_until_it_draws(process: ForkServerProcess, clients: list[Client]) -> None:
    """Return once a client has one answer more, however slow the machine is."""
    deadline, before = time.monotonic() + 60, sum(len(client.answers) for client in clients)
    while sum(len(client.answers) for client in clients) == before:
        assert process.is_alive() and time.monotonic() < deadline, "the service draws nothing"
        time.sleep(0.02)


def test_a_service_that_is_killed_loses_nothing_and_doubles_nothing(
    tmp_path: Path, tiny_models: Path, database_url: str
) -> None:
    copytree(tiny_models, tmp_path / "models")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    dice, stop = random.Random(0), threading.Event()
    clients = [Client(number, address, time.monotonic() + SECONDS) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for kill in range(KILLS):
            process = start(tmp_path, database_url, port)
            if kill % 4:  # every fourth is killed while it starts
                wait_until_it_draws(process, clients)
            time.sleep(dice.uniform(0, 1.5))
            process.kill()
            process.join()
        process = start(tmp_path, database_url, port)
        while sum(len(client.answers) for client in clients) < KILLS:
            wait_until_it_draws(process, clients)
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    process.terminate()
    process.join(30)

    answers = {prompt: told for client in clients for prompt, told in client.answers.items()}
    failures = sum((client.failures for client in clients), Counter())
    assert len(answers) >= KILLS, "hardly any load"
    assert set(failures) <= {"interrupted", "engine_closed"}, failures
    check_database(tmp_path, database_url, answers, set.union(*(c.accepted for c in clients)))


def check_database(
    home: Path, database_url: str, answers: dict[str, Any], accepted: set[str]
) -> None:
    database = open_database(database_url, home)
    with database.read() as session:
        if database.sqlite:
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
        rows = list(session.scalars(select(GenerationRow)))
        images = {row.id: row for row in session.scalars(select(ImageRow))}
        links = {link.image_id for link in session.scalars(select(GenerationImage))}
    database.close()
    finished = [row for row in rows if row.state == "finished"]
    assert Counter(row.prompt for row in finished) == Counter(answers.keys()), "lost or doubled"
    assert {row.prompt: row.answer for row in finished} == answers
    assert accepted <= {row.id for row in rows}
    assert any(row.error_code == "interrupted" for row in rows), "no kill hit a generation"
    others = {(row.state, row.error_code) for row in rows if row.state != "finished"}
    assert others <= {("failed", "interrupted"), ("failed", "engine_closed"), ("cancelled", None)}
    files = {path.stem: path for path in (home / "images").glob("[!.]*")}
    assert set(files) >= set(images) == links
    for picture_id, path in files.items():
        data = path.read_bytes()
        assert sha256(data).hexdigest()[:32] == picture_id
    for picture_id, row in images.items():
        assert files[picture_id].stat().st_size == row.bytes
