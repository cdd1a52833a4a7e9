"""The process of one run: started on a leash, found again after a restart, stopped, killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

NICENESS = 10
"""Behind the service itself, which shares the machine with its runs."""
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait for each other sleep: spinning ones of a run that has to give way take the time
that the last of them needs (on two busy cores a convolution took five times as long)."""
ROOT = Path(__file__).resolve().parents[2]
"""Where `python -m training` finds its package."""


class RunProcess:
    """A run that was started by this service, or by one that is gone.

    The run holds the other end of a pipe of ours as its stdin: it begins at the first line and
    stops when the pipe ends (`training/leash.py`), which the end of this process brings about too.
    """

    def __init__(self, pid: int, started: float, child: "subprocess.Popen[bytes] | None") -> None:
        self.pid = pid
        self.started = started
        """Seconds since boot."""
        self._child = child
        self._deadline: float | None = None

    @classmethod
    def launch(
        cls, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "RunProcess":
        """Start `python -m training` with `command`; it does nothing before `begin`."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "training", *command],
                cwd=ROOT,
                env={**WAITING, **os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the service's terminal is not the run's
            )
        os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
        return cls(child.pid, start_time(child.pid) or 0.0, child)

    @classmethod
    def stray(cls, pid: int, started: float, patience: float) -> "RunProcess":
        """One of a service that is gone: it stops by itself, or is killed after `patience`."""
        run = cls(pid, started, None)
        run.allow(patience)
        return run

    @property
    def is_stray(self) -> bool:
        return self._child is None

    @property
    def stopping(self) -> bool:
        return self._deadline is not None

    def begin(self) -> None:
        """Let it begin, now that the database knows its pid."""
        assert self._child is not None and self._child.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already, which `alive` will tell
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()

    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return start_time(self.pid) == self.started

    def how_it_ended(self) -> str:
        """In words, once it is not alive."""
        code = None if self._child is None else self._child.returncode
        if code is None:
            return "its service ended"
        return f"signal {-code} ended it" if code < 0 else f"it ended with status {code}"

    def stop(self, patience: float) -> None:
        """Ask it to save and leave; `enforce` kills it after `patience` seconds."""
        if not self.stopping:
            self.allow(patience)
            self._signal(signal.SIGTERM)

    def allow(self, patience: float) -> None:
        """Give it `patience` seconds from the first call on."""
        self._deadline = self._deadline or time.monotonic() + patience

    def enforce(self) -> None:
        """Kill it where it was to stop and has not."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.kill()

    def kill(self) -> None:
        """End it at once, with whatever it started."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def close(self) -> None:
        """Let go of its pipe, once it has ended."""
        if self._child is not None and self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def start_time(pid: int) -> float | None:
    """When the process `pid` began, in seconds since boot; None where none runs.

    With the pid it names a process for good: a later one of the same pid began later.
    """
    try:
        if sys.platform == "linux":
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (OSError, psutil.NoSuchProcess):
        return None
