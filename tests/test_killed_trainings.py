"""Service and runs killed at random moments: no training lost or doubled, nothing half done."""

import json
import random
import signal
import threading
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select, text

from api.database.connection import open_database
from api.database.tables import TrainingRow
from models.catalog import Catalog
from tests.api.trained import ENDED, form
from tests.ports import free_port
from tests.test_killed import AWAY, Client, start

KILLS = 20
"""Every other one hits the service, with whatever it runs; the rest hit a run."""
TRAININGS = 3
SECONDS = 1500.0
"""The whole test's bound."""


def runs_in(home: Path) -> Counter[str]:
    """How many processes there are for each training."""
    found: Counter[str] = Counter()
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "dreambooth" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            place = next((word for word in words if word.startswith(str(home))), None)
            if place is not None:
                found[Path(place).parts[len(home.parts) + 1]] += 1
    return found


def kill_a_run(home: Path) -> bool:
    """Whether there was one to kill."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "dreambooth" in words and any(word.startswith(str(home)) for word in words):
            process.send_signal(signal.SIGKILL)
            return True
    return False


def wait_until_it_serves(process: ForkServerProcess, address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.is_alive() and time.monotonic() < deadline, "the service does not start"
        try:
            if httpx.get(f"{address}/healthz", timeout=5).status_code == 200:
                return
        except AWAY:
            time.sleep(0.05)


class Trainer(threading.Thread):
    """Wants each of its models and does not give up: what failed because it died is resumed."""

    def __init__(self, address: str, deadline: float) -> None:
        super().__init__()
        self.http = httpx.Client(base_url=address, timeout=30)
        self.deadline = deadline
        self.done: dict[str, str] = {}
        """The training that made each model."""
        self.failures: Counter[str] = Counter()

    def run(self) -> None:
        for number in range(TRAININGS):
            name = f"dog{number}"
            while name not in self.done:
                assert time.monotonic() < self.deadline, f"{name} was not trained in time"
                try:
                    self.want(name)
                except AWAY:
                    time.sleep(0.1)

    def want(self, name: str) -> None:
        settings = {"steps": 150, "sample_every": 50, "seed": len(self.done)}
        found = self.http.get("/trainings", params={"name": name}).json()["trainings"]
        if not found:
            made = self.http.post("/trainings", **form(name, preset="quick", settings=settings))
            assert made.status_code == 202, made.text
            return
        [training] = found
        if training["state"] == "succeeded":
            self.done[name] = training["id"]
        elif training["state"] in ENDED:
            self.failures[training["error"]["code"]] += 1
            self.http.post(f"/trainings/{training['id']}/resume")
        time.sleep(0.1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_killed_services_and_runs_lose_and_double_no_training(
    tmp_path: Path, tiny_models: Path, database_url: str
) -> None:
    copytree(tiny_models, tmp_path / "models")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    seed = random.randrange(10**6)
    dice, stop, deadline = random.Random(seed), threading.Event(), time.monotonic() + SECONDS
    trainer, artist = Trainer(address, deadline), Client(0, address, deadline)
    drawing = threading.Thread(target=artist.run, args=(stop,))
    process = start(tmp_path, database_url, port)
    wait_until_it_serves(process, address)
    trainer.start()
    drawing.start()
    hit = Counter[str]()
    try:
        while sum(hit.values()) < KILLS and trainer.is_alive():
            until = time.monotonic() + dice.uniform(0, 5)
            while time.monotonic() < until:
                assert not [n for n in runs_in(tmp_path).values() if n > 1], (seed, "doubled")
                time.sleep(0.1)
            if hit["run"] <= hit["service"]:
                hit["run"] += kill_a_run(tmp_path)
                continue
            process.kill()
            process.join()
            hit["service"] += 1
            process = start(tmp_path, database_url, port)
            wait_until_it_serves(process, address)
        trainer.join(SECONDS)
    finally:
        stop.set()
        drawing.join(60)
        process.terminate()
        process.join(30)
    assert sum(hit.values()) == KILLS, (seed, hit, "all was trained before")
    assert set(trainer.failures) <= {"run_died"}, (seed, trainer.failures)
    assert len(trainer.done) == TRAININGS, seed
    assert not runs_in(tmp_path), (seed, "orphans")
    check(tmp_path, database_url, trainer.done)


def check(home: Path, database_url: str, done: dict[str, str]) -> None:
    database = open_database(database_url, home)
    with database.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        rows = {row.name: row for row in session.scalars(select(TrainingRow))}
    database.close()
    assert {name: row.id for name, row in rows.items()} == done
    assert {(row.state, row.pid) for row in rows.values()} == {("succeeded", None)}
    assert sum(row.attempts for row in rows.values()) > TRAININGS, "no kill hit a training"
    catalog = Catalog([home / "models"])
    for name, training_id in done.items():
        trained: dict[str, Any] = catalog.get(name).manifest.training
        assert (trained["run"], trained["steps"]) == (training_id, 150)
        lines = (home / "trainings" / training_id / "report.jsonl").read_text().splitlines()
        told = [json.loads(line)["event"] for line in lines if line.startswith("{")]
        assert told.count("succeeded") == 1
    assert {path.name for path in (home / "models").iterdir()} == {"tiny", "rex", *done}
