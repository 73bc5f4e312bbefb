"""A whole flow without servers: the real pipeline on a null trunk, the in-memory store, an outbox
that keeps what it is sent. Every part can be told to fail or to wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from models.answerer import Answerer
from models.product_index import ProductIndex
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.null_encoder import NullEncoder
from tests.support.chunks import Books, record
from worker.events.decode import EventLimits, InvalidEvent
from worker.events.event import Event, EventKind
from worker.flow.flow import Flow
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import Batch, Outcome, OutMessage, OutTopic, Position, TakenEvent
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.options import PipelineOptions
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.stages import EncodedBatch, GatheredBatch, PipelineModels
from worker.store.contract import ResultWrite, StateStep, StateView, WriteReport
from worker.store.memory_store import MemoryStore
from worker.stream.chunk import Chunk, TopicPartition
from worker.topics.layout import TopicLayout

WIDTH = 32
LAYOUT = TopicLayout()
OCCURRED_AT = "2026-03-01T12:00:00Z"
TIMESTAMP_MS = 1_772_366_400_000  # the same moment
WAIT_S = 10.0

Value = bytes | Mapping[str, Any]  # of a record: as it is, or an event's fields


class Broken(Exception):
    """The fault that a test plants."""


class Faults:
    """Which stage raises, and from which batch (counted from 1) on."""

    def __init__(self) -> None:
        self.stage = ""
        self.from_batch = 1
        self.calls: dict[str, int] = {}

    def pass_through(self, stage: str) -> None:
        """Raise when it is this stage's turn."""
        self.calls[stage] = self.calls.get(stage, 0) + 1
        if stage == self.stage and self.calls[stage] >= self.from_batch:
            raise Broken(stage)


class BenchPipeline(Pipeline):
    """The real pipeline; its model can be held, its steps can fail."""

    def __init__(self, faults: Faults, **options: Any) -> None:
        super().__init__(**options)
        self.faults = faults
        self.device_free = threading.Event()
        self.device_free.set()
        self.encoding = 0  # batches that reached the device

    def prepare(self, events: Sequence[tuple[Position, Event | InvalidEvent]]) -> list[TakenEvent]:
        self.faults.pass_through("prepare")
        return super().prepare(events)

    async def gather(self, batch: Batch) -> GatheredBatch:
        self.faults.pass_through("gather")
        return await super().gather(batch)

    def encode(self, gathered: GatheredBatch) -> EncodedBatch:
        self.faults.pass_through("encode")
        self.encoding += 1
        if not self.device_free.wait(WAIT_S):
            raise TimeoutError("the test never freed the device")
        return super().encode(gathered)

    def conclude(self, encoded: EncodedBatch, catalogue: Catalogue) -> Outcome:
        self.faults.pass_through("conclude")
        return super().conclude(encoded, catalogue)


class BenchStore(MemoryStore):
    """The in-memory store; its calls can fail, its reads can be held."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults
        self.may_apply = asyncio.Event()
        self.may_apply.set()

    async def apply(self, step: StateStep) -> StateView:
        await self.may_apply.wait()
        return await super().apply(step)

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        self.faults.pass_through("confirm" if batch_id else "write")
        return await super().write(results, batch_id=batch_id, sequence=sequence)


class BenchOutbox:
    """Keeps what it is sent; its acknowledgements can be held."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.messages: list[OutMessage] = []
        self.may_acknowledge = asyncio.Event()
        self.may_acknowledge.set()

    async def send(self, messages: Sequence[OutMessage]) -> None:
        self.faults.pass_through("send")
        await self.may_acknowledge.wait()
        self.messages.extend(messages)

    def of(self, topic: OutTopic) -> list[Any]:
        """Return the decoded values sent to one topic."""
        return [orjson.loads(m.value or b"null") for m in self.messages if m.topic is topic]


class FlowBench:
    """A flow with everything around it at hand."""

    def __init__(self, *, max_tokens: int = 1_000, max_events: int = 100) -> None:
        self.faults = Faults()
        self.books = Books()
        self.metrics = WorkerMetrics()
        self.store = BenchStore(self.faults)
        self.outbox = BenchOutbox(self.faults)
        self.failures: list[BaseException] = []
        self.pipeline = BenchPipeline(
            self.faults,
            models=PipelineModels(NullEncoder(WIDTH), SimilarityRecommender(), Answerer(0.0)),
            store=self.store,
            clock=lambda: datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC),
            options=PipelineOptions(process_id="p", privacy_key=b"k"),
        )
        self.catalogue = Catalogue(ProductIndex(WIDTH), self.pipeline.serving.models.trunk.release)
        self.flow = Flow(
            process_id="p",
            pipeline=self.pipeline,
            catalogue=self.catalogue,
            store=self.store,
            outbox=self.outbox,
            kind_of=LAYOUT.kind_of,
            limits=EventLimits(),
            batch_max_tokens=max_tokens,
            batch_max_events=max_events,
            metrics=self.metrics,
        )
        self._offsets: dict[TopicPartition, int] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FlowBench]:
        """Start the flow and stop it at the end."""
        self.flow.start(self.failures.append)
        try:
            yield self
        finally:
            self.pipeline.device_free.set()
            await self.flow.stop()

    def send(
        self, kind: EventKind, *values: bytes | Mapping[str, Any], partition: int = 0
    ) -> Chunk:
        """Hand the flow a chunk of a kind's records, offsets going on from the last."""
        place = TopicPartition(LAYOUT.of(kind), partition)
        first = self._offsets.get(place, 0)
        self._offsets[place] = first + len(values)
        chunk = self.books.chunk(
            [
                record(
                    place,
                    first + number,
                    value if isinstance(value, bytes) else orjson.dumps(value),
                    key=_key(value),
                    timestamp_ms=TIMESTAMP_MS,
                )
                for number, value in enumerate(values)
            ]
        )
        self.flow.accept(chunk)
        return chunk

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(WAIT_S):
            while not holds():  # noqa: ASYNC110  many conditions, none of them an event
                await asyncio.sleep(0.002)

    def figure(self, name: str, **labels: str) -> float:
        """Return a metric's value; 0 when it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def _key(value: Value) -> bytes:
    if isinstance(value, bytes):
        return b"someone"
    return str(value.get("user_id", value.get("product_id"))).encode()


def search(number: int, user: str = "u", query: str = "green tea") -> dict[str, Any]:
    """Return a search event's fields."""
    event = {"event_id": f"s{number}", "occurred_at": OCCURRED_AT, "user_id": user}
    return event | {"query": query}


def product(number: int, title: str = "green tea leaves") -> dict[str, Any]:
    """Return a product event's fields."""
    event = {"event_id": f"p{number}", "occurred_at": OCCURRED_AT}
    return event | {"product_id": f"product-{number}", "title": title}


EVENTS: dict[EventKind, dict[str, Any]] = {
    EventKind.SEARCH: search(1),
    EventKind.PURCHASE: {
        **{"event_id": "b1", "occurred_at": OCCURRED_AT, "user_id": "u", "order_id": "o1"},
        "items": [{"product_id": "product-1"}],
    },
    EventKind.RETURN: {
        **{"event_id": "r1", "occurred_at": OCCURRED_AT, "user_id": "u", "order_id": "o1"},
        "items": [{"product_id": "product-1"}],
    },
    EventKind.REVIEW: {
        **{"event_id": "v1", "occurred_at": OCCURRED_AT, "user_id": "u", "review_id": "v1"},
        **{"product_id": "product-1", "text": "lovely tea", "stars": 5},
    },
    EventKind.QUESTION: {
        **{"event_id": "q1", "occurred_at": OCCURRED_AT, "user_id": "u", "question_id": "q1"},
        **{"text": "is it lovely tea?", "product_id": "product-1"},
    },
    EventKind.PRODUCT: product(1),
    EventKind.FORGET: {"event_id": "f1", "occurred_at": OCCURRED_AT, "user_id": "someone-else"},
}
