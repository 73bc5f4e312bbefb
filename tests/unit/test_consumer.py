"""The record-batch consumer without a broker: seek stamps, the hot loop, drains and commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from faust.types import TP

from tests.support.chunks import record
from tests.support.holding_handler import HoldingHandler
from tests.support.scripted_consumer import ScriptedThread
from worker.settings import Settings
from worker.stream.app import StreamApp, build_app
from worker.stream.chunk import TopicPartition
from worker.stream.consumer import RecordConsumer
from worker.stream.consumer_thread import Fetch, Seek
from worker.stream.faults import LostFetch, StreamFault

TOPIC = "shop.searches"
A, B = TP(TOPIC, 0), TP(TOPIC, 1)


def fetched(serial: int, number: int, offsets: Sequence[int], partition: TP = A) -> Fetch:
    where = TopicPartition(*partition)
    return Fetch(serial, number, {partition: [record(where, at, b"{}") for at in offsets]})


class Rig:
    """A consumer of an app that was never started, on a scripted thread."""

    def __init__(self, thread: ScriptedThread, **settings: Any) -> None:
        self.handler = HoldingHandler()
        self.app: StreamApp = build_app(Settings(**settings), self.handler, [TOPIC])
        self.consumer: RecordConsumer = self.app.consumer
        self.thread = thread
        self.consumer._thread = thread  # type: ignore[assignment]
        agent = next(iter(self.app.agents.values()))
        self.channel = agent.channel
        self.app.topics._tp_index.update({A: {self.channel}, B: {self.channel}})
        self.consumer._set_active_tps({A, B})
        self.app.flow_control.resume()
        self.consumer.resume_flow()

    @property
    def enqueued(self) -> list[int]:
        """First offsets of the chunks on their way to the agent."""
        return [chunk.records[0].offset for chunk in self.channel.queue._queue]


async def rig(*fetches: Fetch, serial: int = 1, at: int = 0, **settings: Any) -> Rig:
    made = Rig(ScriptedThread(fetches, Seek(serial, {A: at, B: at})), **settings)
    await made.consumer.perform_seek()
    return made


async def test_a_fetch_of_this_seek_reaches_the_agents_channel() -> None:
    """Records come as one chunk a partition, entered in the books."""
    made = await rig(fetched(1, 1, [0, 1, 2]))
    await made.consumer._drain_once()
    assert made.enqueued == [0]
    assert made.app.intake.watermarks.in_flight == 3


async def test_a_fetch_from_before_the_seek_is_dropped() -> None:
    """A fetch that hung over a rebalance is void: the seek brings its records again."""
    made = await rig(fetched(1, 7, [4, 5]), fetched(2, 1, [0, 1]), serial=2)
    await made.consumer._drain_once()
    assert made.enqueued == []
    await made.consumer._drain_once()
    assert made.enqueued == [0]


async def test_a_fetch_is_dropped_while_a_newer_seek_is_under_way() -> None:
    """Once the thread has sought again, records of the old positions would be doubles."""
    made = await rig(fetched(1, 1, [0, 1]))
    made.thread.serial = 2
    await made.consumer._drain_once()
    assert made.enqueued == []


async def test_a_missing_fetch_ends_the_worker() -> None:
    """Records that were fetched after the seek and never arrived are not walked over."""
    made = await rig(fetched(1, 1, [0, 1]), fetched(1, 3, [4, 5]))
    await made.consumer._drain_once()
    with pytest.raises(LostFetch, match="Fetch 2 of this assignment never arrived, 3 did"):
        await made.consumer._drain_once()


async def test_no_active_partition_means_no_fetch() -> None:
    """aiokafka would read an empty set as all partitions, paused ones too."""
    made = await rig(fetched(1, 1, [0]))
    made.consumer.pause_partitions({A, B})
    await made.consumer._drain_once()
    assert made.thread.asked == []


async def test_nothing_is_enqueued_before_the_flow_is_active() -> None:
    """Resuming the flow empties the channels: a chunk put in before would stand in the books."""
    made = await rig(fetched(1, 1, [0, 1]))
    thread_fetch = made.thread.fetch

    async def fetch_and_stop(*arguments: Any, **named: Any) -> Fetch:
        made.consumer.stop_flow()
        made.app.flow_control.suspend()
        return await thread_fetch(*arguments, **named)

    made.thread.fetch = fetch_and_stop  # type: ignore[method-assign]
    draining = asyncio.create_task(made.consumer._drain_once())
    for _ in range(5):
        await asyncio.sleep(0)
    assert made.enqueued == []
    made.app.flow_control.resume()
    made.consumer.resume_flow()
    await draining
    assert made.enqueued == [0]


async def test_a_fetch_takes_no_more_than_the_credit() -> None:
    """With 10 events in flight of 64 allowed, the next fetch asks for 54 at most."""
    made = await rig(fetched(1, 1, list(range(10))), events_in_flight=64)
    await made.consumer._drain_once()
    await made.consumer._drain_once()
    assert [asked for _, asked in made.thread.asked] == [64, 54]


async def test_a_used_up_credit_holds_the_loop_until_events_finish() -> None:
    """Backpressure: no fetch at all while everything in flight is unfinished."""
    made = await rig(fetched(1, 1, list(range(4))), events_in_flight=4)
    await made.consumer._drain_once()
    waiting = asyncio.create_task(made.consumer._drain_once())
    await asyncio.sleep(0.02)
    assert len(made.thread.asked) == 1
    made.channel.queue._queue[0].finish(4)
    await waiting
    assert len(made.thread.asked) == 2


async def test_clearing_the_channels_does_not_hurt_the_loop() -> None:
    """Faust cancels waiting putters when it clears; nothing of ours ever waits to put."""
    made = await rig(fetched(1, 1, [0]), fetched(1, 2, [1]))
    await made.consumer._drain_once()
    made.app.flow_control.clear()
    await made.consumer._drain_once()
    assert made.enqueued == [1]


async def test_a_partition_without_an_agent_is_a_fault() -> None:
    """Records that no agent reads are never dropped in silence."""
    made = await rig(fetched(1, 1, [0]))
    made.app.topics._tp_index.clear()
    with pytest.raises(StreamFault, match="0 agents read"):
        await made.consumer._drain_once()


async def test_a_rebalance_finishes_commits_and_forgets() -> None:
    """At revocation the running batch is waited for and committed, the rest is dropped."""
    made = await rig(fetched(1, 1, [0, 1]), fetched(1, 2, [2, 3]))
    for _ in range(2):
        await made.consumer._drain_once()
        made.app.intake.deliver(made.channel.queue._queue.pop())
        if not made.handler._running:
            made.handler.begin()
    emptying = asyncio.create_task(made.consumer.wait_empty())
    await asyncio.sleep(0)
    assert made.handler.held == []
    made.handler.end()
    await emptying
    assert made.thread.commits == [{A: 2}]
    assert made.app.intake.watermarks.partitions == frozenset()


async def test_the_second_drain_of_a_stop_does_nothing() -> None:
    """Faust drains twice at a stop; the deadline must not count double."""
    made = await rig(fetched(1, 1, [0, 1]))
    await made.consumer._drain_once()
    made.app.intake.deliver(made.channel.queue._queue.pop())
    made.handler.begin()
    made.app._stopped.set()
    first = asyncio.create_task(made.consumer.wait_empty())
    await asyncio.sleep(0)
    made.handler.end()
    await first
    made.handler._idle.clear()
    await asyncio.wait_for(made.consumer.wait_empty(), 0.5)
    assert made.app.stopped_cleanly


async def test_a_refused_last_commit_is_not_a_clean_stop() -> None:
    """When Kafka does not take the last offsets, the exit status says so."""
    made = await rig(fetched(1, 1, [0, 1]))
    await made.consumer._drain_once()
    made.channel.queue._queue.pop().finish(2)
    made.thread.accepts_commits = False
    made.app._stopped.set()
    await made.consumer.wait_empty()
    assert not made.app.stopped_cleanly


async def test_a_failed_worker_does_not_wait_for_its_handler() -> None:
    """After a fault nothing in flight will finish; what is finished is still committed."""
    made = await rig(fetched(1, 1, [0]), fetched(1, 2, [1]))
    await made.consumer._drain_once()
    await made.consumer._drain_once()
    done, running = made.channel.queue._queue
    done.finish(1)
    made.app.intake.deliver(running)
    made.handler.begin()
    made.app.fault_reported = True
    await asyncio.wait_for(made.consumer.wait_empty(), 0.5)
    assert made.thread.commits == [{A: 1}]


async def test_a_commit_waits_for_the_one_before_it() -> None:
    """Stock returns False at once; then nobody knows whether the newest watermark is in."""
    made = await rig(fetched(1, 1, [0]), fetched(1, 2, [1]))
    await made.consumer._drain_once()
    await made.consumer._drain_once()
    first, second = made.channel.queue._queue
    first.finish(1)
    earlier = asyncio.create_task(made.consumer.commit())
    await asyncio.sleep(0)
    second.finish(1)
    assert await made.consumer.commit() is True
    await earlier
    assert made.thread.commits == [{A: 1}, {A: 2}]
    assert made.thread.most_under_way == 1


async def test_a_new_assignment_takes_new_positions() -> None:
    """After a seek the books begin where the broker's commits stand."""
    made = await rig(fetched(3, 1, [40]), serial=3, at=40)
    await made.consumer._drain_once()
    made.channel.queue._queue.pop().finish(1)
    await made.consumer.commit()
    assert made.thread.commits == [{A: 41}]


async def test_a_stop_that_meets_a_rebalance_is_no_crash() -> None:
    """Faust would crash on the cancelled loop, and the batch in flight would not be waited for."""
    made = await rig(events_in_flight=1)
    fetcher = made.app._fetcher
    draining = asyncio.create_task(made.consumer._drain_messages(fetcher))
    await asyncio.sleep(0.01)
    made.app.rebalancing = True
    made.app._stopped.set()
    draining.cancel()
    await draining
    assert not made.app.failed


async def test_fetches_are_numbered_anew_after_every_seek() -> None:
    """The first fetch after a second seek has number 1 again and is accepted."""
    made = await rig(fetched(1, 1, [0, 1]), fetched(2, 1, [0, 1]))
    await made.consumer._drain_once()
    made.thread.next_seek = Seek(2, {A: 0, B: 0})
    await made.consumer.perform_seek()
    made.app.flow_control.clear()
    await made.consumer._drain_once()
    assert made.enqueued == [0]
