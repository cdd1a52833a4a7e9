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
