"""The errors of the models room; each carries the code that a client reads."""


class ModelsError(Exception):
    """Something about a model or a generation that the caller can act on."""

    code = "models_error"


class ModelNotFound(ModelsError):
    """No model of that name; the message lists the names that exist."""

    code = "model_not_found"


class ModelExists(ModelsError):
    """A model of that name is published already."""

    code = "model_exists"


class InvalidModel(ModelsError):
    """A folder that is not a model that this project can load."""

    code = "invalid_model"


class ModelRefused(InvalidModel):
    """A file or folder that is not taken in, or cannot be given out; names the file and why."""

    code = "model_refused"


class ModelReadOnly(ModelsError):
    """A model that ships with the project and stays as it is."""

    code = "model_read_only"


class ModelInUse(ModelsError):
    """Requests run or wait on the model, or other models build on it."""

    code = "model_in_use"


class InvalidRequest(ModelsError):
    """A generation request that the chosen model cannot serve; names field and value."""

    code = "invalid_request"


class QueueFull(ModelsError):
    """The engine's queue is at its bound; try again in `retry_after` seconds."""

    code = "queue_full"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotEnoughMemory(ModelsError):
    """What was asked does not fit into memory, or not into the memory budget."""

    code = "out_of_memory"


class EngineClosed(ModelsError):
    """The engine is shutting down and takes no new work."""

    code = "engine_closed"


class GenerationFailed(ModelsError):
    """The generation ended without a picture; `code` says which way."""

    code = "generation_failed"

    def __init__(self, message: str, code: str = code) -> None:
        super().__init__(message)
        self.code = code


class GenerationCancelled(ModelsError):
    """The generation was cancelled before it ended."""

    code = "generation_cancelled"


def first_line(error: BaseException) -> str:
    """What a library says in one line; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """On CUDA an error of its own, on CPUs a RuntimeError of the allocator."""
    import torch  # only who runs it asks

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
