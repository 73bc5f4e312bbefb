"""The batcher: budgets, fairness, order, and work conservation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text_encoder import Tokens
from tests.support.chunks import Books, record
from worker.events.event import Search
from worker.flow.batcher import Batcher, QueuedEvent
from worker.page.metrics import WorkerMetrics
from worker.pipeline.batch import Position, TakenEvent
from worker.stream.chunk import Chunk, TopicPartition

SEARCHES = TopicPartition("shop.searches", 0)
REVIEWS = TopicPartition("shop.reviews", 0)
EVENT = Search(event_id="e", occurred_at="2026-01-01T00:00:00Z", user_id="u", query="q")


class FakeClock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_batcher(max_tokens: int = 100, max_events: int = 10) -> Batcher:
    return Batcher(
        max_tokens=max_tokens, max_events=max_events, metrics=WorkerMetrics(), clock=FakeClock()
    )


def add(batcher: Batcher, partition: TopicPartition, costs: list[int], first: int = 0) -> Chunk:
    """Queue one event for each cost in tokens, with offsets from `first`."""
    offsets = range(first, first + len(costs))
    chunk = Books().chunk([record(partition, offset, b"{}") for offset in offsets])
    batcher.append(
        chunk,
        [
            (
                TakenEvent(
                    Position(*partition, offset),
                    EVENT,
                    (Tokens(np.zeros(cost, np.int32), cost),) if cost else (),
                ),
                0,
            )
            for offset, cost in zip(offsets, costs, strict=True)
        ],
    )
    return chunk


def places(batch: list[QueuedEvent]) -> list[tuple[str, int]]:
    return [(event.taken.position.topic, event.taken.position.offset) for event in batch]


def test_a_free_device_takes_whatever_waits_at_once() -> None:
    """One cheap event is a batch when the device is free."""
    batcher = make_batcher()
    add(batcher, SEARCHES, [1])
    assert places(batcher.take(device_is_busy=False)) == [("shop.searches", 0)]
    assert batcher.take(device_is_busy=False) == []


def test_a_busy_device_lets_the_batch_grow_until_a_budget_is_full() -> None:
    """Nothing is formed ahead of the device before a full budget of tokens or events waits."""
    by_tokens, by_events = make_batcher(max_tokens=100), make_batcher(max_events=3)
    add(by_tokens, SEARCHES, [50, 49])
    add(by_events, SEARCHES, [0, 0])
    assert by_tokens.take(device_is_busy=True) == by_events.take(device_is_busy=True) == []
    add(by_tokens, SEARCHES, [1], first=2)
    add(by_events, SEARCHES, [0], first=2)
    assert len(by_tokens.take(device_is_busy=True)) == 3
    assert len(by_events.take(device_is_busy=True)) == 3


def test_an_event_beyond_the_budget_goes_alone() -> None:
    """A text larger than the budget is a batch of its own, in its partition's order."""
    batcher = make_batcher(max_tokens=100)
    add(batcher, SEARCHES, [10, 500, 10])
    batches = [places(batcher.take(device_is_busy=False)) for _ in range(4)]
    assert batches == [
        [("shop.searches", 0)],
        [("shop.searches", 1)],
        [("shop.searches", 2)],
        [],
    ]


def test_a_backlog_in_one_partition_leaves_turns_to_the_others() -> None:
    """A lone search goes with the next batch, whatever waits among the reviews."""
    batcher = make_batcher(max_tokens=100)
    add(batcher, REVIEWS, [50] * 20)
    batcher.take(device_is_busy=True)
    add(batcher, SEARCHES, [10])
    assert ("shop.searches", 0) in places(batcher.take(device_is_busy=True))


def test_an_event_that_did_not_fit_is_the_first_of_the_next_batch() -> None:
    """Small events of other partitions cannot starve a large one."""
    batcher = make_batcher(max_tokens=100)
    add(batcher, SEARCHES, [10] * 30)
    add(batcher, REVIEWS, [95])
    batcher.take(device_is_busy=False)
    assert ("shop.reviews", 0) in places(batcher.take(device_is_busy=False))


def test_a_batch_stands_by_topic_partition_and_offset() -> None:
    """The order inside a batch does not depend on turns, so its record names a partition once."""
    batcher = make_batcher(max_tokens=1000)
    add(batcher, SEARCHES, [1, 1])
    add(batcher, REVIEWS, [1, 1])
    assert places(batcher.take(device_is_busy=False)) == [
        ("shop.reviews", 0),
        ("shop.reviews", 1),
        ("shop.searches", 0),
        ("shop.searches", 1),
    ]


def test_dropped_events_are_counted_and_gone() -> None:
    """After a revocation nothing that waited can reach the model."""
    batcher = make_batcher()
    add(batcher, SEARCHES, [1, 2, 3])
    assert batcher.drop_unstarted() == 3
    assert batcher.take(device_is_busy=False) == []
    assert batcher.waiting_tokens == batcher.waiting_events == 0


def test_events_of_a_stale_chunk_are_not_queued() -> None:
    """What was prepared while its partition was taken away never waits for a batch."""
    batcher, books = make_batcher(), Books(stale_epochs={1})
    chunk = books.chunk([record(SEARCHES, 0, b"{}")])
    batcher.append(chunk, [(TakenEvent(Position(*SEARCHES, 0), EVENT), 0)])
    assert batcher.take(device_is_busy=False) == []


def test_the_figures_of_a_batch_are_recorded_when_it_is_taken() -> None:
    """Size, tokens, padding and the longest wait are known where the decision is made."""
    clock, metrics = FakeClock(), WorkerMetrics()
    batcher = Batcher(max_tokens=100, max_events=10, metrics=metrics, clock=clock)
    tokens = Tokens(np.zeros(12, np.int32), 16)
    chunk = Books().chunk([record(SEARCHES, 0, b"{}")])
    batcher.append(chunk, [(TakenEvent(Position(*SEARCHES, 0), EVENT, (tokens,)), 0)])
    clock.now_s = 0.25
    batcher.take(device_is_busy=False)
    value = metrics.registry.get_sample_value
    assert value("shopstream_batch_events_sum") == 1
    assert value("shopstream_batch_tokens_sum") == 16
    assert value("shopstream_batch_padding_ratio_sum") == 0.25
    assert value("shopstream_queue_wait_seconds_sum") == 0.25


def test_a_budget_of_nothing_is_refused() -> None:
    """A budget that no event fits into would never make a batch."""
    with pytest.raises(ValueError, match="budget"):
        make_batcher(max_events=0)


ARRIVAL = st.tuples(st.integers(0, 4), st.lists(st.integers(0, 150), min_size=1, max_size=8))
STEP = st.one_of(ARRIVAL, st.booleans())  # events arrive, or the device asks (True: it is busy)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=60), st.integers(1, 12))
def test_every_event_goes_exactly_once_in_order_and_within_the_budget(
    steps: list[tuple[int, list[int]] | bool], max_events: int
) -> None:
    """Nothing is lost or doubled, partitions keep their order, budgets hold, nothing idles."""
    max_tokens = 100
    batcher = make_batcher(max_tokens, max_events)
    sent: dict[int, int] = {}
    taken: list[tuple[int, int]] = []

    def ask(device_is_busy: bool) -> None:
        waiting, full = batcher.waiting_events, batcher.is_full
        batch = batcher.take(device_is_busy=device_is_busy)
        # work-conserving: a free device idles only when nothing waits, a busy one takes if full
        assert bool(batch) == (bool(waiting) and (full or not device_is_busy))
        assert len(batch) <= max_events
        assert len(batch) == 1 or sum(event.cost_tokens for event in batch) <= max_tokens
        assert batcher.waiting_events == waiting - len(batch)
        taken.extend((event.taken.position[1], event.taken.position[2]) for event in batch)

    for step in steps:
        if isinstance(step, bool):
            ask(step)
        else:
            number, costs = step
            add(batcher, TopicPartition("t", number), costs, first=sent.get(number, 0))
            sent[number] = sent.get(number, 0) + len(costs)
    while batcher.waiting_events:
        ask(False)
    for number, count in sent.items():
        assert [offset for partition, offset in taken if partition == number] == list(range(count))
    assert len(taken) == sum(sent.values())
    assert batcher.waiting_tokens == 0
