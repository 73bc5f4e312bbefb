"""The consumer thread's own rules, on a scripted broker: seeks, commits, settings of the client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError

from tests.support.holding_handler import HoldingHandler
from tests.support.scripted_consumer import ScriptedBroker
from worker.settings import Settings
from worker.stream.app import build_app
from worker.stream.consumer_thread import RecordThread

A, B, C = (KafkaPartition("shop.searches", number) for number in range(3))
ENDS = {A: 100, B: 200, C: 300}


def thread_on(broker: ScriptedBroker | None = None, **settings: Any) -> RecordThread:
    app = build_app(Settings(**settings), HoldingHandler(), ["shop.searches"])
    thread: RecordThread = app.consumer._thread
    thread._consumer = broker  # type: ignore[assignment]
    return thread


async def test_every_partition_is_sought() -> None:
    """Also those with no commit and with a commit at 0, which aiokafka's own call skips."""
    broker = ScriptedBroker([A, B, C], commits={A: 42, B: 0}, ends=ENDS)
    seek = await thread_on(broker)._seek_in_thread(0)
    assert broker.seeks == {A: 42, B: 0, C: 0}
    assert seek.positions == {A: 42, B: 0, C: 0}


async def test_every_seek_raises_the_serial_and_restarts_the_numbers() -> None:
    """So a fetch can be told apart from one before the seek, and a missing one is noticed."""
    thread = thread_on(ScriptedBroker([A], commits={A: 1}, ends=ENDS))
    first = await thread._seek_in_thread(0)
    thread._number = 5
    second = await thread._seek_in_thread(0)
    assert (first.serial, second.serial, thread.serial, thread._number) == (1, 2, 2, 0)


async def test_a_new_group_at_latest_commits_where_it_begins() -> None:
    """A crash before the first event must not move the beginning to a later end."""
    broker = ScriptedBroker([A, B], commits={A: 7}, ends=ENDS)
    await thread_on(broker, kafka_offset_reset="latest")._seek_in_thread(0)
    assert broker.commits == {A: 7, B: 200}
    assert broker.seeks == {A: 7, B: 200}


async def test_a_seek_that_a_newer_one_overtook_moves_nothing() -> None:
    """Faust gives calls up that run on here; a late one would set the positions back."""
    broker = ScriptedBroker([A], commits={A: 1}, ends=ENDS)
    thread = thread_on(broker)
    thread._seeks_asked = 1
    broker.answer.clear()
    late = asyncio.create_task(thread._seek_in_thread(1))
    await asyncio.sleep(0)
    thread._seeks_asked = 2
    broker.answer.set()
    with pytest.raises(IllegalStateError):
        await late
    assert broker.seeks == {}
    assert thread.serial == 0


async def test_a_seek_of_an_assignment_that_is_over_moves_nothing() -> None:
    """The next assignment brings its own seek."""
    broker = ScriptedBroker([A], commits={A: 1}, ends=ENDS)
    thread = thread_on(broker)
    broker.assignment_now.active = False
    with pytest.raises(IllegalStateError):
        await thread._seek_in_thread(0)
    assert broker.seeks == {}


async def test_a_member_that_was_expelled_commits_nothing() -> None:
    """Without a generation the broker would take the commit of an empty group's zombie."""
    broker = ScriptedBroker([A], commits={A: 50}, ends=ENDS, generation=-1)
    assert await thread_on(broker)._commit({A: 20}) is False
    assert broker.commits == {A: 50}


async def test_only_assigned_partitions_are_committed() -> None:
    """A partition that moved on belongs to somebody else's books."""
    broker = ScriptedBroker([A], commits={}, ends=ENDS)
    thread = thread_on(broker)
    assert await thread._commit({A: 3, B: 4}) is True
    assert broker.commits == {A: 3}
    assert await thread._commit({B: 4}) is False


async def test_a_commit_that_is_not_answered_is_given_up() -> None:
    """aiokafka retries for ever; a stop must not."""
    broker = ScriptedBroker([A], commits={}, ends=ENDS)
    broker.answer.clear()
    thread = thread_on(broker, shutdown_timeout_s=0.05)
    assert await asyncio.wait_for(thread._commit({A: 3}), 5.0) is False


async def test_the_client_is_set_for_latency_and_copartitioning() -> None:
    """Faust's 1500 ms fetch wait would hold back a hot partition; round robin parts a shopper."""
    thread = thread_on(kafka_fetch_max_wait_ms=123)
    consumer = thread._create_worker_consumer(thread.app.transport)
    try:
        assert consumer._fetch_max_wait_ms == 123
        assert consumer._fetch_min_bytes == 1
        assert consumer._partition_assignment_strategy == (RangePartitionAssignor,)
        assert consumer._auto_offset_reset == "earliest"
    finally:
        consumer._closed = True


async def test_a_slow_call_leaves_room_for_others() -> None:
    """Stock serves two calls at a time: a long fetch and a stuck commit would block a seek."""
    assert thread_on().method_queue.num_workers >= 4
