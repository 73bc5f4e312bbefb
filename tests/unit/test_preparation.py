"""The preparation: order within partitions, turns between them."""

from __future__ import annotations

from tests.support.flow_bench import FlowBench, search
from worker.events.event import EventKind
from worker.pipeline.batch import OutTopic


async def test_a_backlog_is_prepared_in_order() -> None:
    """A chunk longer than one take is cut, and its events keep their order."""
    async with FlowBench(max_events=1_000, max_tokens=100_000).running() as bench:
        bench.send(EventKind.SEARCH, *(search(number) for number in range(1_500)))
        await bench.until(bench.books.all_finished)
        runs = [run for batch in bench.outbox.of(OutTopic.BATCHES) for run in batch["runs"]]
        assert [run["first"] for run in runs] == [0, *(run["last"] + 1 for run in runs[:-1])]
        assert runs[-1]["last"] == 1_499


async def test_a_lone_event_need_not_wait_for_a_backlog() -> None:
    """An event behind another partition's backlog is prepared with its next take."""
    async with FlowBench(max_events=100, max_tokens=100_000).running() as bench:
        bench.pipeline.device_free.clear()
        bench.send(EventKind.SEARCH, *(search(number) for number in range(2_000)))
        bench.send(EventKind.SEARCH, search(9_999), partition=1)
        await bench.until(lambda: bench.pipeline.encoding == 1)
        bench.pipeline.device_free.set()
        await bench.until(bench.books.all_finished)
        batches = bench.outbox.of(OutTopic.BATCHES)
        place = next(
            number
            for number, batch in enumerate(batches)
            for run in batch["runs"]
            if run["partition"] == 1
        )
        assert place <= 3
