"""Faust's consumer on the record-batch path: fetched records go to the agents as chunks.

Overrides named hooks of Faust 0.15.3's aiokafka `Consumer`; the conductor, the agents, assignment
and recovery stay stock. Every override says which trap of the stock path it closes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import ConsumerStoppedError
from faust.transport.conductor import Conductor
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from mode import Service, ServiceT

from worker.stream.chunk import TopicPartition
from worker.stream.consumer_thread import Fetch, RecordThread, new_event_loop
from worker.stream.faults import LostFetch, StreamFault

if TYPE_CHECKING:
    from worker.stream.app import StreamApp

logger = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 1.0

# At low rates the round trip of a fetch costs more than its events: after a small one the next
# begins no sooner than this. Measured: a third of the CPU at 2,000 events/s, a lone event as quick.
PACE_S = 0.010
SMALL_FETCH_RECORDS = 256

# Faust's recovery ends for good, in silence, when a seek outlasts the broker's request timeout.
SEEK_TIMEOUT_MARGIN_S = 10.0

PROGRESS_CHECK_S = 10.0
GROUP_CHECK_S = 2.0


class RecordConsumer(Consumer):
    """Feeds chunks to the agents' channels and commits the intake's watermarks."""

    app: StreamApp
    _thread: RecordThread
    logger = logging.getLogger("faust.shopstream")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._intake = self.app.intake
        self._accepted_serial = -1
        self._next_number = 1
        self._commit_turn = asyncio.Lock()
        self._stop_drained = False

    def _new_consumer_thread(self) -> RecordThread:
        return RecordThread(self, loop=self.loop, beacon=self.beacon, thread_loop=new_event_loop())

    # --- the hot loop

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except (ConsumerStoppedError, asyncio.CancelledError):
            # Faust takes a cancellation that meets a rebalance for a crash.
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        await self._wait_for_flow()
        credit = await self._intake.wait_for_credit()
        active = frozenset(self._get_active_partitions())
        if not active or not self.flow_active:
            # aiokafka reads an empty set as "all partitions", paused ones too.
            await asyncio.sleep(0.05)
            return
        began_s = self.loop.time()
        fetch = await self._thread.fetch(
            active,
            timeout_s=FETCH_TIMEOUT_S,
            max_records=min(credit, self.app.settings.kafka_max_poll_records),
        )
        if not fetch.records:
            return
        # Resuming the flow empties the agents' channels: enqueue only after it.
        await self._wait_for_flow()
        if self._accepts(fetch):
            self._enqueue(fetch)
        if sum(map(len, fetch.records.values())) < SMALL_FETCH_RECORDS:
            await asyncio.sleep(max(0.0, began_s + PACE_S - self.loop.time()))

    async def _wait_for_flow(self) -> None:
        if not self.flow_active:
            await self.can_resume_flow.wait()

    def _accepts(self, fetch: Fetch) -> bool:
        """Return False for a fetch that a seek made void: the seek brings its records again."""
        if fetch.serial != self._accepted_serial or self._thread.serial != self._accepted_serial:
            return False
        if fetch.number != self._next_number:
            raise LostFetch(
                f"Fetch {self._next_number} of this assignment never arrived, {fetch.number} did; "
                "its records would be lost. The worker stops; a restart goes on from its commits."
            )
        self._next_number += 1
        return True

    def _enqueue(self, fetch: Fetch) -> None:
        # No await in here: the flow is active and the stamp was compared.
        conductor = cast(Conductor, self.app.topics)
        for partition, records in fetch.records.items():
            channels = conductor._tp_index.get(partition, set())
            if len(channels) != 1:
                raise StreamFault(f"{len(channels)} agents read {partition}; one must.")
            chunk = self._intake.watermarks.open_chunk(TopicPartition(*partition), records)
            for channel in channels:
                channel.queue.put_nowait(chunk)

    # --- a new assignment

    async def perform_seek(self) -> None:
        """Seek, then begin an epoch: positions, watermarks and the accepted serial go together."""
        timeout_s = self.app.conf.broker_request_timeout - SEEK_TIMEOUT_MARGIN_S
        try:
            async with asyncio.timeout(timeout_s):
                seek = await self._thread.seek_all()
        except TimeoutError:
            raise StreamFault(
                f"Kafka did not tell the committed offsets within {timeout_s:.0f} s of an "
                "assignment. The worker stops; a restart goes on from commits."
            ) from None
        # No await from here: a fetch must not be compared between these lines.
        self._accepted_serial = seek.serial
        self._next_number = 1
        self._intake.open({TopicPartition(*tp): at for tp, at in seek.positions.items()})

    # --- the end of an assignment

    async def wait_empty(self) -> None:
        """Finish what is in flight, commit, and end the epoch; called at revocation and at a stop.

        At a stop Faust calls it twice; the second call does nothing, or the deadline would count
        double. A worker that failed does not wait for its handler, but commits what is finished.
        """
        if self._stop_drained:
            return
        stopping = self.app.should_stop
        if self.app.failed:
            timeout_s = 0.0
        else:
            timeout_s = self.app.stop_drain_s if stopping else self.app.settings.drain_timeout_s
        drained = await self._intake.drain(timeout_s)
        committed = await self._commit_last()
        left = self._intake.watermarks.in_flight
        self._intake.end_epoch()
        if not drained and not self.app.failed:
            logger.warning(
                "%d events were still in work after %.0f s; they will be done again.",
                left,
                timeout_s,
            )
        if stopping:
            self._stop_drained = True
            self.app.stopped_cleanly = drained and committed

    async def _commit_last(self) -> bool:
        if not self._intake.watermarks.committable():
            return True
        try:
            # The thread has its own timeout; this one is for a thread that does not answer.
            async with asyncio.timeout(2 * self.app.commit_timeout_s):
                return await self.commit()
        except TimeoutError:
            logger.warning("The last commit was not answered in time.")
            return False

    # --- commits

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit every watermark, one commit at a time.

        Stock does nothing and returns False while another commit runs; a caller that must have its
        newest watermark in could not tell.
        """
        async with self._commit_turn:
            return await self.force_commit(topics, start_new_transaction)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the watermarks; True when nothing is left to commit."""
        watermarks = self._intake.watermarks
        epoch, offsets = watermarks.epoch, watermarks.committable()
        if not offsets:
            return True
        committed = await self._commit({TP(*name): offset for name, offset in offsets.items()})
        if committed:
            watermarks.note_committed(epoch, offsets)
        return committed

    # --- watching

    @Service.task
    async def _watch_progress(self) -> None:
        while not self.should_stop:
            await self.sleep(PROGRESS_CHECK_S)
            if not self.should_stop and not self.app.rebalancing:
                await self._intake.check_progress(self.loop.time())

    @Service.task
    async def _watch_group(self) -> None:
        # Before the first assignment nobody fetches, so nobody would hear that the group is closed
        # to this worker (authorization, another protocol).
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_S)
            if not self.should_stop:
                await self._thread.check_group()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: streams that see no Faust events look idle to stock, which logs errors."""

    def close(self) -> None:
        """Do nothing (see `RecordThread.close`)."""
