"""The thread that owns the aiokafka consumer: fetches with a seek stamp, seeks, commits.

Overrides named hooks of Faust 0.15.3's `AIOKafkaConsumerThread`. Faust calls in from the main loop
through `call_thread`; what runs in the thread's own loop is named `_…_in_thread`.

The big trap of this seam: a fetch that began before a rebalance hangs in the thread until the new
assignment, then returns *new* records and moves the positions. If they are dropped without a later
seek, they are lost, and the watermark walks over the hole. So every seek raises `serial`, and every
fetch carries the serial and its own number since that seek: the consumer drops a fetch only when a
seek follows that will bring its records again, and stops the worker when a number is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode.threads import MethodQueue

if TYPE_CHECKING:
    from worker.stream.app import StreamApp

logger = logging.getLogger(__name__)

# Stock has two: one long fetch and one stuck commit would block every other call.
METHOD_WORKERS = 4


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop where there is one (not on Windows), else of asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@dataclass(frozen=True, slots=True)
class Fetch:
    """Records by partition, stamped with the seek they follow and their number since then."""

    serial: int
    number: int
    records: Mapping[TP, Sequence[ConsumerRecord]]


@dataclass(frozen=True, slots=True)
class Seek:
    """The positions a seek set, and its serial."""

    serial: int
    positions: Mapping[TP, int]


class RecordThread(AIOKafkaConsumerThread):
    """The consumer thread of the record-batch path."""

    app: StreamApp
    logger = logging.getLogger("faust.shopstream")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.serial = 0
        self._number = 0
        self._seeks_asked = 0

    @property
    def method_queue(self) -> MethodQueue:
        if self._method_queue is None:
            self._method_queue = MethodQueue(
                num_workers=METHOD_WORKERS, loop=self.thread_loop, beacon=self.beacon
            )
        return self._method_queue

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        settings = self.app.settings
        # Read when the consumer starts. Faust fixes the wait at 1500 ms, which lets the idle
        # partitions of a node hold back a hot one for that long.
        consumer._fetch_max_wait_ms = settings.kafka_fetch_max_wait_ms
        consumer._fetch_min_bytes = 1
        # A shopper's searches, purchases and reviews must meet in one worker. Round robin deals out
        # topic by topic and parts them; range gives partition n of all topics to the same member
        # when their counts are equal.
        self._assignor = RangePartitionAssignor
        consumer._partition_assignment_strategy = (RangePartitionAssignor,)
        return consumer

    # --- fetch

    async def fetch(
        self, partitions: frozenset[TP], *, timeout_s: float, max_records: int
    ) -> Fetch:
        """Return what came of `partitions` (must not be empty) within `timeout_s`, stamped."""
        return cast(
            Fetch,
            await self.call_thread(self._fetch_in_thread, partitions, timeout_s, max_records),
        )

    async def _fetch_in_thread(
        self, partitions: frozenset[TP], timeout_s: float, max_records: int
    ) -> Fetch:
        consumer = self._ensure_consumer()
        # The flow may have stopped while the call waited in the queue; aiokafka reads an empty set
        # as "all partitions".
        if not self.consumer.flow_active or not partitions:
            return Fetch(self.serial, self._number, {})
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            records = await fetcher.fetched_records(
                partitions, timeout=timeout_s, max_records=max_records
            )
        # No await since the positions moved: the stamp names the seek they moved from.
        if records:
            self._number += 1
        # aiokafka empties the oldest response first. With a backlog that is a mebibyte of one
        # partition, behind which an event of another would wait: let them take turns.
        for partition in records:
            if partition in fetcher._records:
                fetcher._records.move_to_end(partition)
        return Fetch(self.serial, self._number, records)

    # --- seek

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its commit and return the positions."""
        return (await self.seek_all()).positions

    async def seek_all(self) -> Seek:
        """Seek every assigned partition, also those without a commit, and raise the serial.

        Raises IllegalStateError when the assignment changed meanwhile or a newer seek was asked
        for: Faust then waits for the next assignment.
        """
        self._seeks_asked += 1
        return cast(Seek, await self.call_thread(self._seek_in_thread, self._seeks_asked))

    async def _seek_in_thread(self, ticket: int) -> Seek:
        consumer = self._ensure_consumer()
        assignment = consumer._subscription.subscription.assignment
        if assignment is None:
            raise IllegalStateError("no partitions are assigned")
        positions = await self._read_positions(consumer, assignment.tps)
        # A call that Faust gave up on still runs on here. Were it to seek after a newer one did,
        # the positions would go back and its serial would never be accepted.
        if ticket != self._seeks_asked or not assignment.active:
            raise IllegalStateError("the assignment changed before its partitions were sought")
        # No await between the seeks and the serial.
        for partition, offset in positions.items():
            consumer.seek(partition, offset)
        self.serial += 1
        self._number = 0
        return Seek(self.serial, {TP(*name): offset for name, offset in positions.items()})

    async def _read_positions(
        self, consumer: AIOKafkaConsumer, partitions: frozenset[KafkaPartition]
    ) -> dict[KafkaPartition, int]:
        commits = await consumer._coordinator.fetch_committed_offsets(list(partitions))
        positions: dict[KafkaPartition, int] = {
            partition: meta.offset for partition, meta in commits.items()
        }
        fresh = [partition for partition in partitions if partition not in positions]
        if not fresh:
            return positions
        if self.app.settings.kafka_offset_reset == "earliest":
            positions.update(await consumer.beginning_offsets(fresh))
            return positions
        ends: dict[TP, int] = await consumer.end_offsets(fresh)
        # Commit where the group begins: a crash before the first commit would begin anew at a later
        # end and skip what came between.
        if not await self._commit(ends):
            raise IllegalStateError("the start of new partitions could not be committed")
        positions.update(ends)
        return positions

    # --- commit

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit in the thread; False when the broker refused or did not answer in time."""
        consumer = self._ensure_consumer()
        # Expelled from the group: a commit without a generation would be taken as one from outside
        # any group once the group is empty, and move its offsets back.
        if consumer._coordinator.generation < 0:
            return False
        assigned = consumer.assignment()
        wanted = {
            KafkaPartition(*partition): OffsetAndMetadata(offset, "")
            for partition, offset in offsets.items()
            if partition in assigned
        }
        if not wanted:
            return False
        try:
            # aiokafka retries a retriable error for ever.
            async with asyncio.timeout(self.app.commit_timeout_s):
                await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError) as exc:
            logger.info("A commit was refused, the group has rebalanced: %s", exc)
            return False
        except TimeoutError:
            logger.warning(
                "Kafka did not answer a commit within %.0f s.", self.app.commit_timeout_s
            )
            return False
        return True

    # --- the group, and the end

    async def check_group(self) -> None:
        """Raise what ended this worker's membership for good."""
        if self._consumer is not None:
            await self.call_thread(self._check_group_in_thread, self._consumer)

    async def _check_group_in_thread(self, consumer: AIOKafkaConsumer) -> None:
        if consumer._coordinator is not None:
            consumer._coordinator.check_errors()

    async def on_thread_stop(self) -> None:
        """Leave the group; with the broker down, give up after a while."""
        try:
            async with asyncio.timeout(self.app.leave_timeout_s):
                await super().on_thread_stop()
        except TimeoutError:
            logger.warning("Kafka did not answer the goodbye; the session will time out there.")
        except asyncio.CancelledError:
            # aiokafka lets out the cancellation of a fetch that waited for its retry. It would end
            # this thread before it tells the main loop, which then waits for a minute.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    def close(self) -> None:
        """Do nothing: `on_thread_stop` closes.

        Faust calls this from the main loop when a rebalance meets a stop; it would close the client
        there, on the wrong loop, and keep the consumer from leaving the group.
        """

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Log; stock prints a traceback to standard error, and the main loop reports the fault."""
        logger.debug(msg.format(*fmt), exc_info=True)
