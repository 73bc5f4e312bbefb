"""After a crash: batches that changed the state get their record, though nobody confirmed them."""

from __future__ import annotations

import pytest

from tests.support.flow_bench import Broken, FlowBench, search
from worker.events.event import EventKind
from worker.flow.recovery import publish_unconfirmed
from worker.pipeline.batch import OutTopic


async def test_an_unconfirmed_batch_gets_its_record() -> None:
    """The record names the batch's events and its place in the order, and says unconfirmed."""
    async with FlowBench().running() as bench:
        bench.faults.stage = "encode"
        bench.send(EventKind.SEARCH, search(1), search(2))
        await bench.until(lambda: bool(bench.failures))
    assert await publish_unconfirmed(bench.store, bench.outbox) == 1
    (record,) = bench.outbox.of(OutTopic.BATCHES)
    assert record["batch_id"] == "p-1"
    assert record["sequence"] == 1
    assert record["confirmed"] is False
    assert record["runs"] == [
        {"topic": "shop.searches", "partition": 0, "first": 0, "last": 1, "count": 2}
    ]
    assert await bench.store.pending_intents() == {}


async def test_confirmed_batches_leave_nothing_to_publish() -> None:
    """After a run without a crash there is no intent."""
    async with FlowBench().running() as bench:
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(bench.books.all_finished)
    assert await publish_unconfirmed(bench.store, bench.outbox) == 0


async def test_an_intent_stays_until_its_record_is_acknowledged() -> None:
    """When Kafka refuses the record, the next start finds the intent again."""
    async with FlowBench().running() as bench:
        bench.faults.stage = "send"
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bool(bench.failures))
    with pytest.raises(Broken):
        await publish_unconfirmed(bench.store, bench.outbox)
    assert list(await bench.store.pending_intents()) == ["p-1"]
