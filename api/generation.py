"""One generation as its clients see it; belongs to the event loop."""

from datetime import UTC, datetime
from typing import TypeVar

from api.database.tables import GenerationRow
from api.event_log import EventLog
from api.events import ClientEvent, Data
from api.orders import Order
from api.schemas.generate import GenerateAnswer
from api.schemas.generations import (
    GenerationState,
    NoData,
    PreviewData,
    QueuedData,
    State,
    StepData,
)
from api.schemas.service import Failure
from models.errors import GenerationCancelled, GenerationFailed

D = TypeVar("D", bound=Data)
Key = tuple[str, str]
"""A client and its Idempotency-Key."""

INTERRUPTED = "interrupted"
WAS_INTERRUPTED = "the service ended before it was done; ask again"


class Generation(EventLog[ClientEvent]):
    """What has happened to it so far, and a way to wait for more."""

    def __init__(
        self,
        generation_id: str,
        client: str,
        model: str,
        prompt: str,
        fingerprint: str,
        key: Key | None = None,
        asynchronous: bool = False,
        created: datetime | None = None,
    ) -> None:
        super().__init__()
        self.id = generation_id
        self.client = client
        self.model = model
        self.prompt = prompt
        self.fingerprint = fingerprint
        self.key = key
        self.asynchronous = asynchronous
        """It goes on without a client that waits for it."""
        self.created = created or datetime.now(UTC)
        self.started: datetime | None = None
        self.progress: StepData | None = None
        self.waiting = 0
        """Synchronous clients that wait for it."""

    @classmethod
    def of(
        cls, order: Order, generation_id: str, key: Key | None, asynchronous: bool
    ) -> "Generation":
        """One that was just queued."""
        request = order.request
        return cls(
            generation_id,
            *(request.client, request.model, request.prompt, order.fingerprint, key, asynchronous),
        )

    @classmethod
    def restored(cls, row: GenerationRow) -> "Generation":
        """One that has ended, as the database knows it: of its events, the final one."""
        generation = cls(
            row.id, row.client, row.model, row.prompt, row.fingerprint, created=row.created
        )
        generation.started = row.started
        if row.step is not None and row.steps is not None:
            generation.progress = StepData(step=row.step, steps=row.steps)
        ended = row.ended or row.created
        if row.state == "finished":
            answer = GenerateAnswer.model_validate(row.answer)
            generation.add(ClientEvent(row.last_event, "finished", answer, ended))
        elif row.state == "cancelled":
            generation.add(ClientEvent(row.last_event, "cancelled", NoData(), ended))
        else:  # also one whose end could not be written
            failure = Failure(
                code=row.error_code or INTERRUPTED, message=row.error_message or WAS_INTERRUPTED
            )
            generation.add(ClientEvent(row.last_event, "failed", failure, ended))
        return generation

    @property
    def finished(self) -> bool:
        return bool(self.events) and self.events[-1].name == "finished"

    @property
    def preview(self) -> PreviewData | None:
        """The newest one, while it is being made."""
        return self._latest(PreviewData)

    def add(self, event: ClientEvent) -> None:
        """Append `event` and wake those who wait.

        Of previews, which are large, only each picture's newest is kept, and none after the end.
        """
        if isinstance(event.data, PreviewData):
            self._forget_previews(event.data.index)
        elif event.final:
            self._forget_previews(None)
        elif event.name == "started":
            self.started = event.time
        elif isinstance(event.data, StepData):
            self.progress = event.data
        self.append(event)

    def failure(self, code: str, message: str) -> ClientEvent:
        """The final event of one that fails for a reason that the engine does not know of."""
        event_id = self.events[-1].id + 1 if self.events else 0
        return ClientEvent(event_id, "failed", Failure(code=code, message=message))

    def answer(self) -> GenerateAnswer:
        """What became of it.

        Raises GenerationFailed or, also while it has not ended, GenerationCancelled.
        """
        data = self.events[-1].data if self.events else None
        if isinstance(data, GenerateAnswer):
            return data
        if isinstance(data, Failure):
            raise GenerationFailed(data.message, data.code)
        raise GenerationCancelled(f"the generation {self.id} was cancelled")

    def state(self, ahead: int) -> GenerationState:
        """Where it stands; `ahead` generations came before it and have not ended."""
        state: State = "queued" if self.started is None else "running"
        last = self.events[-1] if self.events else None
        if last is not None and (
            last.name == "finished" or last.name == "failed" or last.name == "cancelled"
        ):
            state = last.name
        queued, step = self._latest(QueuedData), self.progress
        return GenerationState(
            id=self.id,
            model=self.model,
            prompt=self.prompt,
            state=state,
            position=min(queued.position, ahead) if queued and state == "queued" else None,
            step=step.step if step else None,
            steps=step.steps if step else None,
            created=self.created,
            started=self.started,
            ended=last.time if last and last.final else None,
            answer=self._latest(GenerateAnswer),
            error=self._latest(Failure),
        )

    def _latest(self, kind: type[D]) -> D | None:
        return next((e.data for e in reversed(self.events) if isinstance(e.data, kind)), None)

    def _forget_previews(self, index: int | None) -> None:
        """Those of one picture, or all."""
        self.events = [
            event
            for event in self.events
            if not isinstance(event.data, PreviewData) or index not in (None, event.data.index)
        ]
