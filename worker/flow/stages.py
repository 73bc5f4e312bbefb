"""The four stages of a batch after it is prepared: gather → encode → conclude → write.

Each works on one batch and hands it on through a queue of one: the stages overlap, batches keep
their order, and a slow stage holds back those before it, so that the next batch grows meanwhile.
The model runs in one thread, the ranking in another; the event loop only waits for Redis and Kafka.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from worker.events.decode import InvalidEvent
from worker.flow.batcher import Batcher, QueuedEvent
from worker.flow.preparation import Preparing
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import Batch, Outcome, OutMessage
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.stages import EncodedBatch, GatheredBatch
from worker.store.contract import StateStore

Result = TypeVar("Result")


class BatchPipeline(Preparing, Protocol):
    """The pipeline's steps as the stages call them (`worker.pipeline.pipeline.Pipeline`)."""

    async def gather(self, batch: Batch) -> GatheredBatch:
        """Apply the batch to the state and read what its models need."""
        ...

    def encode(self, gathered: GatheredBatch) -> EncodedBatch:
        """Run the models' forward pass; in the model thread."""
        ...

    def conclude(self, encoded: EncodedBatch, catalogue: Catalogue) -> Outcome:
        """Rank, tag, answer and sample; in the ranking thread."""
        ...


class MessageSender(Protocol):
    """Where a batch's messages go (`worker.flow.outbox.Outbox`)."""

    async def send(self, messages: Sequence[OutMessage]) -> None:
        """Return when Kafka has acknowledged every message."""
        ...


@dataclass(frozen=True, slots=True)
class TakenBatch:
    """A batch, and the events that wait for it."""

    batch: Batch
    events: Sequence[QueuedEvent]


@dataclass(frozen=True, slots=True)
class SideMessages:
    """Messages of no batch that take their place among those of the batches."""

    make: Callable[[], Sequence[OutMessage]]  # called on the ranking thread
    sent: asyncio.Future[int]  # how many were sent and acknowledged


class Stages:
    """Moves batches from the batcher to `finished`, in order."""

    def __init__(
        self,
        *,
        process_id: str,
        pipeline: BatchPipeline,
        catalogue: Catalogue,
        store: StateStore,
        outbox: MessageSender,
        batcher: Batcher,
        metrics: WorkerMetrics,
        finished: Callable[[Sequence[QueuedEvent]], None],
    ) -> None:
        self._process_id = process_id
        self._pipeline = pipeline
        self._catalogue = catalogue
        self._store = store
        self._outbox = outbox
        self._batcher = batcher
        self._metrics = metrics
        self._finished = finished
        self._gathered: asyncio.Queue[tuple[TakenBatch, GatheredBatch]] = asyncio.Queue(1)
        self._encoded: asyncio.Queue[tuple[TakenBatch, EncodedBatch] | SideMessages] = (
            asyncio.Queue(1)
        )
        self._concluded: asyncio.Queue[
            tuple[TakenBatch, Outcome] | tuple[SideMessages, Sequence[OutMessage]]
        ] = asyncio.Queue(1)
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._ranking = ThreadPoolExecutor(1, thread_name_prefix="ranking")
        self._device_is_busy = False
        self._may_take = asyncio.Event()  # set whenever the batcher's answer may have changed
        self._taken_total = 0
        self._confirmed_total = 0
        self._confirmed = asyncio.Event()  # set whenever a batch ends
        self.in_flight = 0  # batches taken, and side messages, not finished

    def wake(self) -> None:
        """Say that the batcher holds more."""
        self._may_take.set()

    def loops(self) -> dict[str, Coroutine[None, None, None]]:
        """Return the stages, to be run side by side on one event loop."""
        return {
            "gather": self._gather(),
            "encode": self._encode(),
            "conclude": self._conclude(),
            "write": self._write(),
        }

    async def on_ranking_thread(self, work: Callable[[], Result]) -> Result:
        """Run work on the thread that owns the product index, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._ranking, work)

    async def on_model_thread(self, work: Callable[[], Result]) -> Result:
        """Run work on the device, between two batches: the next one waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._model, work)

    async def send_beside(self, make: Callable[[], Sequence[OutMessage]]) -> int:
        """Make and send messages in their place among those of the batches; return how many.

        What is made before a batch concludes is acknowledged before that batch's own messages go.
        """
        side = SideMessages(make, asyncio.get_running_loop().create_future())
        self.in_flight += 1
        await self._encoded.put(side)
        return await side.sent

    async def settled(self) -> None:
        """Return when every batch that is taken by now has ended."""
        taken = self._taken_total
        while self._confirmed_total < taken:
            self._confirmed.clear()
            await self._confirmed.wait()

    def close(self) -> None:
        """Let the threads go once their last call returns."""
        for thread in (self._model, self._ranking):
            thread.shutdown(wait=False, cancel_futures=True)

    async def _gather(self) -> None:
        while True:
            taken = await self._next_batch()
            with self._timed("gather"):
                gathered = await self._pipeline.gather(taken.batch)
            await self._gathered.put((taken, gathered))

    async def _next_batch(self) -> TakenBatch:
        while True:
            self._may_take.clear()
            # At most one batch stands gathered ahead of the device: taken later, a batch is fuller.
            if self._gathered.empty():
                events = self._batcher.take(device_is_busy=self._device_is_busy)
                if events:
                    return self._started(events)
            await self._may_take.wait()

    def _started(self, events: Sequence[QueuedEvent]) -> TakenBatch:
        self._taken_total += 1
        self.in_flight += 1
        self._metrics.batches_in_flight.inc()
        batch_id = f"{self._process_id}-{self._taken_total}"
        return TakenBatch(Batch(batch_id, [event.taken for event in events]), events)

    async def _encode(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            taken, gathered = await self._gathered.get()
            self._device_is_busy = True
            self._may_take.set()  # a full budget may be gathered meanwhile
            with self._timed("encode"):
                encoded = await loop.run_in_executor(self._model, self._pipeline.encode, gathered)
            # While the ranking lags behind, the device counts as busy and the next batch grows.
            await self._encoded.put((taken, encoded))
            self._device_is_busy = False
            self._may_take.set()

    async def _conclude(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            work = await self._encoded.get()
            if isinstance(work, SideMessages):
                made = await loop.run_in_executor(self._ranking, work.make)
                await self._concluded.put((work, made))
                continue
            taken, encoded = work
            with self._timed("conclude"):
                outcome = await loop.run_in_executor(
                    self._ranking, self._pipeline.conclude, encoded, self._catalogue
                )
            if outcome.batch_id != taken.batch.batch_id:
                raise RuntimeError(
                    f"batch {taken.batch.batch_id} came back as {outcome.batch_id}: out of order"
                )
            self._metrics.products.set(len(self._catalogue.index))
            await self._concluded.put((taken, outcome))

    async def _write(self) -> None:
        while True:
            work, made = await self._concluded.get()
            if isinstance(work, TakenBatch):
                assert isinstance(made, Outcome)
                await self._confirm(work, made)
            else:
                assert not isinstance(made, Outcome)
                await self._send_messages(made)
                self.in_flight -= 1
                self._finished(())
                if not work.sent.done():
                    work.sent.set_result(len(made))

    async def _confirm(self, taken: TakenBatch, outcome: Outcome) -> None:
        # Side by side, because neither needs the other. The intent goes last: a crash before
        # that leaves it in the store, and the next start publishes it as the batch's record.
        await asyncio.gather(self._write_results(outcome), self._send_messages(outcome.messages))
        self._record_latencies(taken.events)
        await self._store.write((), batch_id=outcome.batch_id)
        self._confirmed_total += 1
        self._confirmed.set()
        self.in_flight -= 1
        self._metrics.batches_in_flight.dec()
        self._finished(taken.events)

    async def _write_results(self, outcome: Outcome) -> None:
        if not outcome.results:
            return
        with self._timed("write"):
            report = await self._store.write(outcome.results, sequence=outcome.sequence)
        for name in ("written", "older", "forgotten"):
            self._metrics.results.labels(name).inc(getattr(report, name))

    async def _send_messages(self, messages: Sequence[OutMessage]) -> None:
        if not messages:
            return
        with self._timed("send"):
            await self._outbox.send(messages)
        for topic, count in Counter(message.topic for message in messages).items():
            self._metrics.messages.labels(topic.value).inc(count)

    def _record_latencies(self, events: Sequence[QueuedEvent]) -> None:
        now_s = time.time()
        for queued in events:
            event = queued.taken.event
            if queued.timestamp_ms < 0 or isinstance(event, InvalidEvent):
                continue
            latency_s = max(0.0, now_s - queued.timestamp_ms / 1000)
            self._metrics.event_latency_seconds.labels(event.kind.value).observe(latency_s)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self._metrics.stage_seconds.labels(stage).observe(time.perf_counter() - start_s)
