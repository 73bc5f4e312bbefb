"""The intake: credit in events, opening and draining, and the watch over stalled watermarks."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.chunks import record
from tests.support.holding_handler import HoldingHandler
from worker.stream.chunk import Chunk, TopicPartition
from worker.stream.faults import WatermarkStalled
from worker.stream.intake import STUCK_AFTER_S, Intake

A = TopicPartition("shop.searches", 0)


def open_chunk(intake: Intake, first: int, count: int) -> Chunk:
    records = [record(A, offset, b"") for offset in range(first, first + count)]
    return intake.watermarks.open_chunk(A, records)


async def test_credit_is_counted_in_events_not_chunks() -> None:
    """Two chunks of three records use six events of credit."""
    intake = Intake(HoldingHandler(), events_in_flight=10)
    intake.open({A: 0})
    open_chunk(intake, 0, 3)
    open_chunk(intake, 3, 3)
    assert intake.credit == 4


async def test_no_credit_waits_until_events_finish() -> None:
    """A fetch waits while the credit is used up and goes on when events finish."""
    intake = Intake(HoldingHandler(), events_in_flight=4)
    intake.open({A: 0})
    chunk = open_chunk(intake, 0, 4)
    waiting = asyncio.create_task(intake.wait_for_credit())
    await asyncio.sleep(0)
    assert not waiting.done()
    chunk.finish(3)
    assert await waiting == 3


async def test_little_credit_is_not_worth_a_fetch() -> None:
    """A single freed event of a large credit does not start a fetch; a sixteenth does."""
    intake = Intake(HoldingHandler(), events_in_flight=64)
    intake.open({A: 0})
    chunk = open_chunk(intake, 0, 64)
    waiting = asyncio.create_task(intake.wait_for_credit())
    chunk.finish(3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    chunk.finish(1)
    assert await waiting == 4


@pytest.mark.parametrize("end", ["open", "end_epoch"])
async def test_all_credit_returns_with_a_new_epoch(end: str) -> None:
    """Chunks lost on the way (cleared channels, dropped, stale) cannot use up the credit."""
    intake = Intake(HoldingHandler(), events_in_flight=4)
    intake.open({A: 0})
    open_chunk(intake, 0, 4)
    waiting = asyncio.create_task(intake.wait_for_credit())
    await asyncio.sleep(0)
    intake.open({A: 0}) if end == "open" else intake.end_epoch()
    assert await waiting == 4


async def test_a_closed_intake_passes_nothing_on() -> None:
    """A chunk that reaches its agent after the drain began never reaches the handler."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=4)
    intake.open({A: 0})
    chunk = open_chunk(intake, 0, 1)
    assert await intake.drain(timeout_s=1.0)
    intake.deliver(chunk)
    assert handler.held == []


async def test_a_stale_chunk_is_dropped_before_the_handler() -> None:
    """A chunk of the assignment before this one is not delivered."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=4)
    intake.open({A: 0})
    old = open_chunk(intake, 0, 1)
    intake.open({A: 0})
    intake.deliver(old)
    new = open_chunk(intake, 0, 1)
    intake.deliver(new)
    assert handler.held == [new]


async def test_drain_drops_the_unstarted_and_waits_for_the_running() -> None:
    """What no batch took is forgotten at once; the batch in flight is waited for and counts."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=8)
    intake.open({A: 0})
    intake.deliver(open_chunk(intake, 0, 2))
    handler.begin()
    intake.deliver(open_chunk(intake, 2, 2))
    draining = asyncio.create_task(intake.drain(timeout_s=60.0))
    await asyncio.sleep(0)
    assert handler.held == []
    assert not draining.done()
    handler.end()
    assert await draining is True
    assert intake.watermarks.committable() == {A: 2}


async def test_a_drain_ends_at_its_deadline() -> None:
    """A stuck batch does not hold up a rebalance; it finishes later without effect."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=8)
    intake.open({A: 0})
    intake.deliver(open_chunk(intake, 0, 2))
    handler.begin()
    assert await intake.drain(timeout_s=0.0) is False
    intake.end_epoch()
    handler.end()
    assert intake.watermarks.committable() == {}


async def test_the_handler_hears_of_its_partitions() -> None:
    """Assignment and revocation are told, a revocation only where something was held."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=8)
    intake.end_epoch()
    intake.open({A: 0})
    intake.end_epoch()
    intake.end_epoch()
    assert handler.told == [("assigned", frozenset({A})), ("revoked", frozenset({A}))]


async def test_events_that_nobody_works_on_are_a_fault() -> None:
    """In flight, handler idle, nothing finished between the checks: the watermark stands still."""
    intake = Intake(HoldingHandler(), events_in_flight=8)
    intake.open({A: 0})
    open_chunk(intake, 0, 2)
    await intake.check_progress(0.0)
    await intake.check_progress(10.0)
    with pytest.raises(WatermarkStalled, match="2 events are in flight but no batch is"):
        await intake.check_progress(20.0)


async def test_progress_and_idleness_are_no_fault() -> None:
    """Neither finishing events nor having none in flight counts as stalled."""
    intake = Intake(HoldingHandler(), events_in_flight=8)
    intake.open({A: 0})
    for second in range(5):
        await intake.check_progress(10.0 * second)
    chunk = open_chunk(intake, 0, 8)
    for second in range(5, 11):
        chunk.finish(1)
        await intake.check_progress(10.0 * second)


async def test_a_batch_that_never_ends_is_a_fault() -> None:
    """A batch in flight may take long, but not for ever."""
    handler = HoldingHandler()
    intake = Intake(handler, events_in_flight=8)
    intake.open({A: 0})
    intake.deliver(open_chunk(intake, 0, 2))
    handler.begin()
    for now_s in (0.0, 60.0, STUCK_AFTER_S):
        await intake.check_progress(now_s)
    with pytest.raises(WatermarkStalled, match="the model or the store is stuck"):
        await intake.check_progress(STUCK_AFTER_S + 1.0)
