"""The flow: every event through all stages, acknowledged in order, only when all is confirmed."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.flow_bench import EVENTS, Broken, FlowBench, search
from worker.events.event import EventKind
from worker.pipeline.batch import OutTopic
from worker.store.contract import ResultKind


async def test_events_of_every_kind_are_finished_once_with_their_results() -> None:
    """One event of each kind goes through all stages, and what it causes stands in the store."""
    async with FlowBench().running() as bench:
        for kind, event in EVENTS.items():
            bench.send(kind, event)
        await bench.until(bench.books.all_finished)
        assert bench.books.finished_total == len(EVENTS)
        assert await bench.store.result(ResultKind.SEARCH, "s1") is not None
        assert await bench.store.result(ResultKind.RECOMMENDATIONS, "u") is not None
        assert await bench.store.result(ResultKind.TAGS, "v1") is not None
        assert await bench.store.result(ResultKind.ANSWER, "q1") is not None
        assert [v["product"]["product_id"] for v in bench.outbox.of(OutTopic.PRODUCT_VECTORS)] == [
            "product-1"
        ]
        assert bench.failures == []


async def test_bad_records_become_dead_letters_and_are_finished() -> None:
    """What cannot be an event is sent to the dead letters once, and the events around it go on."""
    async with FlowBench().running() as bench:
        bench.send(EventKind.SEARCH, search(1), b"{no json", b"", b"\xff\xfe", search(2))
        bench.send(EventKind.REVIEW, b'{"event_id": 5}')
        await bench.until(bench.books.all_finished)
        letters = bench.outbox.of(OutTopic.DEAD_LETTERS)
        assert sorted((letter["topic"], letter["offset"]) for letter in letters) == [
            ("shop.reviews", 0),
            ("shop.searches", 1),
            ("shop.searches", 2),
            ("shop.searches", 3),
        ]
        assert await bench.store.result(ResultKind.SEARCH, "s2") is not None
        assert bench.figure("shopstream_events_total", kind="search", outcome="dead_letter") == 3
        assert bench.figure("shopstream_events_total", kind="search", outcome="processed") == 2


@pytest.mark.parametrize(
    "stage", ["prepare", "gather", "encode", "conclude", "write", "send", "confirm"]
)
async def test_a_failure_in_any_stage_stops_the_flow_without_an_acknowledgement(stage: str) -> None:
    """A fault that is not an event's ends the flow once; nothing of that batch is finished."""
    async with FlowBench().running() as bench:
        bench.faults.stage = stage
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bool(bench.failures))
        bench.send(EventKind.SEARCH, search(2))
        async with asyncio.timeout(1):
            await bench.flow.wait_idle()
        await asyncio.sleep(0.05)
        assert [str(failure) for failure in bench.failures] == [stage]
        assert isinstance(bench.flow.failure, Broken)
        assert bench.books.finished == []


async def test_batches_before_a_failure_keep_their_acknowledgement() -> None:
    """What was confirmed before the fault stays finished, nothing after it is."""
    async with FlowBench(max_events=1).running() as bench:
        bench.faults.stage, bench.faults.from_batch = "write", 3
        bench.send(EventKind.SEARCH, *(search(number) for number in range(6)))
        await bench.until(lambda: bool(bench.failures))
        assert bench.books.finished_total == 2


async def test_a_batch_that_comes_back_as_another_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The outcome of another batch is never written under this one's events."""
    async with FlowBench().running() as bench:
        conclude = bench.pipeline.conclude

        def conclude_wrongly(*args: object) -> object:
            outcome = conclude(*args)  # type: ignore[arg-type]
            return type(outcome)("p-999", outcome.results, outcome.messages)

        monkeypatch.setattr(bench.pipeline, "conclude", conclude_wrongly)
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bool(bench.failures))
        assert "out of order" in str(bench.failures[0])
        assert bench.store.results() == {}


async def test_events_lost_in_the_preparation_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preparation that returns fewer events than it was given stops the flow."""
    async with FlowBench().running() as bench:
        prepare = bench.pipeline.prepare
        monkeypatch.setattr(bench.pipeline, "prepare", lambda events: prepare(events)[:-1])
        bench.send(EventKind.SEARCH, search(1), search(2))
        await bench.until(lambda: bool(bench.failures))
        assert "every event" in str(bench.failures[0])
        assert bench.books.finished == []


async def test_nothing_is_finished_before_kafka_acknowledged() -> None:
    """Results stand in the store while the messages wait; the events stay unfinished till then."""
    async with FlowBench().running() as bench:
        bench.outbox.may_acknowledge.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bool(bench.store.results()))
        await asyncio.sleep(0.05)
        assert bench.books.finished == []
        assert await bench.store.pending_intents() != {}
        bench.outbox.may_acknowledge.set()
        await bench.until(bench.books.all_finished)
        assert await bench.store.pending_intents() == {}


async def test_the_batch_being_gathered_counts_as_in_flight() -> None:
    """`wait_idle` waits for a batch that has only begun to read its state."""
    async with FlowBench().running() as bench:
        bench.store.may_apply.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bench.figure("shopstream_batches_in_flight") == 1)
        idle = asyncio.create_task(bench.flow.wait_idle())
        await asyncio.sleep(0.05)
        assert not idle.done()
        bench.store.may_apply.set()
        async with asyncio.timeout(5):
            await idle
        assert bench.books.all_finished()


async def test_dropped_events_never_reach_the_model() -> None:
    """At a revocation the running batch ends and all else is forgotten, unfinished."""
    async with FlowBench(max_events=2).running() as bench:
        bench.pipeline.device_free.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bench.pipeline.encoding == 1)
        bench.send(EventKind.SEARCH, *(search(number) for number in range(2, 9)))
        await bench.until(lambda: bench.figure("shopstream_batches_in_flight") == 2)
        dropped = bench.flow.drop_unstarted()
        assert dropped == 5  # one runs, a full batch of two is gathered ahead
        assert bench.figure("shopstream_events_in_flight") == 3
        bench.pipeline.device_free.set()
        await bench.flow.wait_idle()
        assert bench.books.finished_total == 3
        assert bench.flow.is_idle
        assert bench.figure("shopstream_events_in_flight") == 0


async def test_records_in_preparation_are_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being tokenized when its partition was taken away is dropped when it is ready."""
    async with FlowBench().running() as bench:
        bench.send(EventKind.SEARCH, search(1))
        assert bench.flow.drop_unstarted() == 1
        bench.send(EventKind.SEARCH, search(2))
        await bench.until(lambda: bench.books.finished_total == 1)
        assert await bench.store.result(ResultKind.SEARCH, "s1") is None
        assert bench.flow.is_idle


async def test_a_stale_chunk_is_not_taken() -> None:
    """A chunk of an assignment that is over is dropped before the model."""
    async with FlowBench().running() as bench:
        bench.books.stale_epochs.add(1)
        bench.send(EventKind.SEARCH, search(1))
        await asyncio.sleep(0.05)
        assert bench.flow.is_idle
        assert bench.store.results() == {}


async def test_a_partial_batch_waits_for_the_device_and_a_full_one_is_gathered_ahead() -> None:
    """While the device is busy the next batch grows; once full, one (and only one) is gathered."""
    async with FlowBench(max_events=4).running() as bench:
        bench.pipeline.device_free.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bench.pipeline.encoding == 1)
        bench.send(EventKind.SEARCH, search(2), search(3), search(4))
        await asyncio.sleep(0.05)
        assert bench.figure("shopstream_batches_in_flight") == 1
        bench.send(EventKind.SEARCH, *(search(number) for number in range(5, 40)))
        await asyncio.sleep(0.05)
        assert bench.figure("shopstream_batches_in_flight") == 2
        bench.pipeline.device_free.set()
        await bench.until(bench.books.all_finished)


async def test_a_slow_sink_holds_the_stages_back() -> None:
    """With Kafka silent only a handful of batches are in flight; the rest waits in the batcher."""
    async with FlowBench(max_events=1).running() as bench:
        bench.outbox.may_acknowledge.clear()
        bench.send(EventKind.SEARCH, *(search(number) for number in range(50)))
        await asyncio.sleep(0.3)
        assert bench.figure("shopstream_batches_in_flight") <= 8
        bench.outbox.may_acknowledge.set()
        await bench.until(bench.books.all_finished)


async def test_events_are_finished_in_their_partition_s_order() -> None:
    """Over many batches and partitions the records of each partition are finished in order."""
    async with FlowBench(max_events=7).running() as bench:
        for start in range(0, 60, 3):
            for partition in range(3):
                numbers = range(partition * 1000 + start, partition * 1000 + start + 3)
                bench.send(
                    EventKind.SEARCH, *(search(number) for number in numbers), partition=partition
                )
        await bench.until(bench.books.all_finished)
        for partition in range(3):
            runs = [
                (run["first"], run["last"])
                for batch in bench.outbox.of(OutTopic.BATCHES)
                for run in batch["runs"]
                if run["partition"] == partition
            ]
            assert [first for first, _ in runs] == [0, *(last + 1 for _, last in runs[:-1])]
            assert runs[-1][1] == 59


async def test_a_stopped_flow_finishes_nothing_more() -> None:
    """After `stop` what was in flight stays unacknowledged."""
    bench = FlowBench()
    async with bench.running():
        bench.outbox.may_acknowledge.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bool(bench.store.results()))
    assert bench.books.finished == []
