"""What Prometheus may know of the service: its requests, its engine, its process."""

import time
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.trainings.runner import Trainings
from api.trainings.store import ACTIVE, ENDED
from models.counters import Distribution
from models.requests import Engine

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One service's metrics, in a registry of their own."""

    def __init__(self, engine: Engine, trainings: Trainings) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "dogbooth_http_requests",
            "Requests by method, path template and status.",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self.latency = Histogram(
            "dogbooth_http_request_seconds",
            "Seconds up to the first byte of the answer.",
            ["method", "path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(EngineCollector(engine))
        self._registry.register(TrainingCollector(trainings))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)


class EngineCollector(Collector):
    """Asks the engine what it does whenever Prometheus asks us."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        status = self._engine.describe()
        counters = status.counters
        yield GaugeMetricFamily("dogbooth_ready", "1 once it takes requests.", status.ready)
        yield GaugeMetricFamily(
            "dogbooth_queue_depth", "Generations that wait for their first step.", status.queued
        )
        yield GaugeMetricFamily(
            "dogbooth_queue_limit", "Generations that may wait.", status.queue_limit
        )
        yield GaugeMetricFamily(
            "dogbooth_generations_running", "Generations being made.", status.running
        )
        ended = CounterMetricFamily(
            "dogbooth_generations", "Generations by how they ended.", labels=["outcome"]
        )
        for outcome, number in counters.ended.items():
            ended.add_metric([outcome], number)
        yield ended
        yield CounterMetricFamily("dogbooth_images", "Pictures made.", counters.images)
        yield _histogram(
            "dogbooth_batch_rows",
            "Rows of the U-Net's batch at a denoising step; a picture with guidance takes two.",
            counters.batch_rows,
        )
        yield _histogram(
            "dogbooth_step_seconds", "Time of a batch's denoising step.", counters.step_seconds
        )
        loads = CounterMetricFamily(
            "dogbooth_model_loads", "Weights read into memory.", labels=["outcome"]
        )
        loads.add_metric(["loaded"], counters.loads)
        loads.add_metric(["failed"], counters.failed_loads)
        yield loads
        resident = GaugeMetricFamily(
            "dogbooth_model_resident", "1 for each model in memory.", labels=["model"]
        )
        for model in status.resident:
            resident.add_metric([model], 1)
        yield resident
        yield GaugeMetricFamily(
            "dogbooth_weights_bytes", "Memory of the models' weights.", status.weights_bytes
        )
        yield GaugeMetricFamily(
            "dogbooth_weights_budget_bytes", "Memory they may take.", status.memory_budget
        )
        yield CounterMetricFamily(
            "dogbooth_engine_restarts", "Times the engine died and was replaced.", status.restarts
        )


class TrainingCollector(Collector):
    """Counts the trainings whenever Prometheus asks us."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings

    def describe(self) -> Iterable[Metric]:
        """Nothing: with this the registry asks for no counts before the database is there."""
        return []

    def collect(self) -> Iterable[Metric]:
        counts = self._trainings.store.counts()
        states = GaugeMetricFamily("dogbooth_trainings", "Trainings by state.", labels=["state"])
        for state in (*ACTIVE, *ENDED):
            states.add_metric([state], counts.get(state, 0))
        yield states
        yield GaugeMetricFamily(
            "dogbooth_trainings_running", "Processes that train.", self._trainings.running
        )
        yield CounterMetricFamily(
            "dogbooth_training_seconds",
            "Seconds that processes have trained since the service began.",
            self._trainings.seconds,
        )
        yield CounterMetricFamily(
            "dogbooth_training_steps",
            "Steps that trainings have taken since the service began.",
            self._trainings.steps,
        )


class MetricsMiddleware:
    """Counts each request and the time to the first byte of its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        metrics: Metrics = scope["state"]["service"].metrics
        began = time.perf_counter()
        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            # Names that clients choose would make a series each.
            method = scope["method"] if scope["method"] in METHODS else "other"
            path = getattr(scope.get("route"), "path", "unknown")
            metrics.requests.labels(method, path, status).inc()
            metrics.latency.labels(method, path).observe(time.perf_counter() - began)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_counted)
        except Exception:
            if not answered:
                count(500)
            raise


def _histogram(name: str, words: str, values: Distribution) -> HistogramMetricFamily:
    bounds = [*(f"{bound:g}" for bound in values.bounds), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(values.counts)), strict=True))
    return HistogramMetricFamily(name, words, buckets, values.total)
