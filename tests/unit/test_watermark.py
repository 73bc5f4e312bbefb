"""The books of what is in flight: contiguous watermarks, epochs, order of offsets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.chunks import record
from worker.stream.chunk import Chunk, TopicPartition
from worker.stream.faults import OffsetsOutOfOrder
from worker.stream.watermark import Watermarks

A = TopicPartition("shop.searches", 0)
B = TopicPartition("shop.searches", 1)


def books_at(**positions: int) -> Watermarks:
    watermarks = Watermarks(on_freed=lambda: None)
    watermarks.reset({{"a": A, "b": B}[name]: at for name, at in positions.items()})
    return watermarks


def open_chunk(watermarks: Watermarks, partition: TopicPartition, *offsets: int) -> Chunk:
    return watermarks.open_chunk(partition, [record(partition, at, b"") for at in offsets])


def test_nothing_is_committable_before_an_event_is_finished() -> None:
    """Opened chunks alone move no watermark."""
    watermarks = books_at(a=5)
    open_chunk(watermarks, A, 5, 6)
    assert watermarks.committable() == {}
    assert watermarks.in_flight == 2


def test_a_later_chunk_waits_for_the_one_before_it() -> None:
    """A chunk that finishes first is committed only when the one in front of it is finished."""
    watermarks = books_at(a=0)
    first, second = open_chunk(watermarks, A, 0, 1), open_chunk(watermarks, A, 2, 3)
    second.finish(2)
    assert watermarks.committable() == {}
    first.finish(1)
    assert watermarks.committable() == {A: 1}
    first.finish(1)
    assert watermarks.committable() == {A: 4}


def test_a_chunk_begun_is_committed_as_far_as_it_is_finished() -> None:
    """A stop amid a long chunk repeats nothing: its next unfinished record is where to go on."""
    watermarks = books_at(a=0)
    chunk = open_chunk(watermarks, A, 3, 5, 9, 12)
    chunk.finish(2)
    assert watermarks.committable() == {A: 9}


def test_partitions_do_not_wait_for_each_other() -> None:
    """An unfinished chunk holds back its own partition only."""
    watermarks = books_at(a=0, b=7)
    open_chunk(watermarks, A, 0)
    open_chunk(watermarks, B, 7).finish(1)
    assert watermarks.committable() == {B: 8}


def test_gaps_in_the_offsets_are_walked_over_and_counted() -> None:
    """Offsets that no record has (compaction, transactions) do not stop the watermark."""
    watermarks = books_at(a=10)
    open_chunk(watermarks, A, 12, 15).finish(2)
    open_chunk(watermarks, A, 20).finish(1)
    assert watermarks.committable() == {A: 21}
    assert watermarks.skipped_offsets == 2 + 4


def test_a_chunk_that_begins_before_the_expected_offset_is_a_fault() -> None:
    """Positions moved behind the books' back end the worker instead of being worked on twice."""
    watermarks = books_at(a=10)
    with pytest.raises(OffsetsOutOfOrder, match=r"offset 9 again, 10 was to come"):
        open_chunk(watermarks, A, 9)
    open_chunk(watermarks, A, 10, 11)
    with pytest.raises(OffsetsOutOfOrder, match=r"offset 11 again, 12 was to come"):
        open_chunk(watermarks, A, 11, 12)


def test_a_stale_chunk_moves_nothing() -> None:
    """What finishes after its assignment ended changes neither watermark nor credit."""
    watermarks = books_at(a=0)
    old = open_chunk(watermarks, A, 0, 1)
    watermarks.reset({A: 0})
    open_chunk(watermarks, A, 0, 1)
    assert old.stale
    old.finish(2)
    assert watermarks.committable() == {}
    assert watermarks.in_flight == 2
    assert watermarks.finished_total == 0


def test_finishing_more_than_a_chunk_holds_is_refused() -> None:
    """Counting an event twice raises, since the watermark would pass one that is not finished."""
    chunk = open_chunk(books_at(a=0), A, 0, 1)
    chunk.finish(1)
    with pytest.raises(ValueError, match="2 records finished of a chunk with 1 left"):
        chunk.finish(2)


def test_a_commit_of_an_earlier_epoch_is_not_noted() -> None:
    """A commit answered after a rebalance does not pass for one of the new assignment."""
    watermarks = books_at(a=0)
    before = watermarks.epoch
    watermarks.reset({A: 0})
    open_chunk(watermarks, A, 0).finish(1)
    watermarks.note_committed(before, {A: 1})
    assert watermarks.committable() == {A: 1}
    watermarks.note_committed(watermarks.epoch, {A: 1})
    assert watermarks.committable() == {}


def test_a_refused_commit_stays_committable() -> None:
    """Only what the broker confirmed leaves the list of what is to be committed."""
    watermarks = books_at(a=0)
    open_chunk(watermarks, A, 0).finish(1)
    assert watermarks.committable() == {A: 1}
    assert watermarks.committable() == {A: 1}


def test_every_release_of_credit_is_announced() -> None:
    """Finishing and resetting call `on_freed`, or a waiting fetch would sleep for ever."""
    freed: list[None] = []
    watermarks = Watermarks(on_freed=lambda: freed.append(None))
    watermarks.reset({A: 0})
    open_chunk(watermarks, A, 0, 1).finish(1)
    watermarks.reset({})
    assert len(freed) == 3


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_the_watermark_never_passes_an_unfinished_event(sizes: list[int], order: object) -> None:
    """In whatever order chunks go on, every offset below the watermark is finished."""
    watermarks = books_at(a=0)
    chunks, at = [], 0
    for size in sizes:
        chunks.append(open_chunk(watermarks, A, *range(at, at + size)))
        at += size
    steps = [chunk for chunk, size in zip(chunks, sizes, strict=True) for _ in range(size)]
    order.shuffle(steps)  # type: ignore[attr-defined]
    for done, chunk in enumerate(steps, start=1):
        chunk.finish(1)
        finished = 0
        for opened, size in zip(chunks, sizes, strict=True):
            finished += size - opened.remaining
            if opened.remaining:
                break
        assert watermarks.committable().get(A, 0) == finished
        assert watermarks.in_flight == at - done
    assert watermarks.committable() == {A: at}
