"""Which rows a training reads: all of them, of like length together, the same after a break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.language.token_store import TokenStore, TokenWriter
from training.loop.schedule import Draw, Schedule, steps_of


def _rows(schedule: Schedule, steps: range) -> list[list[int]]:
    return [[draw.row for draw in schedule.batch(step)] for step in steps]


def test_a_pass_reads_every_row_once() -> None:
    """One pass draws each row once, the next pass in another order."""
    schedule = Schedule(np.arange(1, 13), batch_rows=3, steps=8, seed=1)
    first, second = _rows(schedule, range(4)), _rows(schedule, range(4, 8))
    for one in (first, second):
        assert sorted(row for rows in one for row in rows) == list(range(12))
    assert first != second
    assert schedule.batch(5)[0].epoch == 1


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    """A later step of a new schedule draws what it drew in one that ran through."""
    lengths = np.random.default_rng(0).integers(4, 60, size=101)
    through = Schedule(lengths, batch_rows=8, steps=40, seed=3)
    before = _rows(through, range(40))
    after_a_break = Schedule(lengths, batch_rows=8, steps=40, seed=3)
    assert _rows(after_a_break, range(25, 40)) == before[25:]
    other = Schedule(lengths, batch_rows=8, steps=40, seed=4)
    assert _rows(other, range(5)) != before[:5]
    draw, again = through.batch(30)[2], after_a_break.batch(30)[2]
    assert draw.generator().random() == again.generator().random()
    assert draw.generator().random() != Draw(draw.row, draw.epoch + 1, 3).generator().random()


def test_rows_of_like_length_share_a_batch() -> None:
    """Padding wastes a small part of what it wastes in an unsorted order."""
    lengths = np.random.default_rng(0).integers(4, 124, size=1_600)
    schedule = Schedule(lengths, batch_rows=16, steps=100, seed=0)
    sorted_batches = [lengths[rows] for rows in _rows(schedule, range(100))]
    waste = sum(int((batch.max() - batch).sum()) for batch in sorted_batches)
    plain = sum(int((batch.max() - batch).sum()) for batch in lengths.reshape(100, 16))
    assert waste < 0.1 * plain


def test_fewer_rows_than_a_batch_are_one_batch() -> None:
    """A tiny set still makes steps; none at all is refused."""
    schedule = Schedule(np.array([3, 5]), batch_rows=32, steps=3, seed=0)
    assert [sorted(rows) for rows in _rows(schedule, range(3))] == [[0, 1]] * 3
    with pytest.raises(ValueError, match="needs rows"):
        Schedule(np.zeros(0, dtype=np.int64), batch_rows=2, steps=1, seed=0)
    assert steps_of(100, 32, 2.0) == 6
    assert steps_of(3, 32, 1.0) == 1


def test_tokens_come_back_as_they_were_written(tmp_path: Path) -> None:
    """A store on disk gives each piece, its words and its document; an empty one has none."""
    with TokenWriter(tmp_path / "a") as writer:
        writer.add([5, 6, 7], [1, 1, 2], document=3)
        writer.add([8])
    store = TokenStore(tmp_path / "a")
    assert store.lengths.tolist() == [3, 1]
    assert store[0].ids.tolist() == [5, 6, 7]
    assert store[0].words.tolist() == [1, 1, 2]
    assert store[1].words.tolist() == [1]
    assert store.documents.tolist() == [3, 0]
    assert len(TokenStore.of(tmp_path / "b", [])) == 0
