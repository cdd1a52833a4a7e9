"""What ends a run besides a wrong setting; each error carries the code that a job reports."""


class TrainingError(Exception):
    """A run that cannot go on."""

    code = "training_failed"


class Diverged(TrainingError):
    """The loss is not a number any more."""

    code = "diverged"


class NothingLearned(TrainingError):
    """The weights are what they were before."""

    code = "nothing_learned"


class OutOfMemory(TrainingError):
    """Not even one row fits the device."""

    code = "out_of_memory"


class Stopped(TrainingError):
    """A signal ended the run; `signal` is its number, `step` the last one that is saved."""

    code = "stopped"

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped at step {step}; the same command goes on from there")
        self.signal = signal
        self.step = step
