"""Ties a run to the program that started it: no run goes on for a service that is gone."""

import os
import signal
import sys
import threading
import time

GRACE = 20.0
"""Seconds that a run has to save and leave."""


def wait_for_leave() -> None:
    """Wait for a line on stdin, then watch for its end, which ends this process as SIGTERM does.

    Who starts a run writes the line once it has noted the process down; until then nothing was
    touched, and when the line never comes the process ends. stdin ends with the program that holds
    the other end of the pipe, however that program ends.
    """
    if not os.read(sys.stdin.fileno(), 1):
        sys.exit(0)
    threading.Thread(target=_follow, name="leash", daemon=True).start()


def _follow() -> None:
    while os.read(
        sys.stdin.fileno(), 4096
    ):  # not sys.stdin's: its lock would outlive the main thread
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
