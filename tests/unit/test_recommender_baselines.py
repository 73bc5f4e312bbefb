"""Baselines on small data in which the right answer is planted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from training.data.interactions import Interactions, Rows, read_interactions
from training.data.splits import leave_one_out, time_split
from training.evaluation.baselines import (
    BASELINES,
    ItemKnnScorer,
    MarkovScorer,
    PersonalFrequencyScorer,
    PopularityScorer,
)
from training.evaluation.evaluate_recommendations import ALL, REPEATED, evaluate


def read(tmp_path: Path, lines: list[str]) -> Interactions:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines))
    return read_interactions(path)


def history(interactions: Interactions, items: str) -> Rows:
    return np.array([interactions.item_ids.index(item) for item in items], np.int64)


def ranked(interactions: Interactions, scores: np.ndarray) -> str:
    return "".join(interactions.item_ids[row] for row in np.argsort(-scores, kind="stable"))


def test_popularity_is_the_count_of_the_training_part(tmp_path: Path) -> None:
    """Everybody gets the same order: what was chosen most often first."""
    train = read(tmp_path, ["u c", "v b", "w b", "u b", "v c", "x a"])
    scores = PopularityScorer(train).score([history(train, "a"), history(train, "")], None)
    assert [ranked(train, row) for row in scores] == ["bca", "bca"]


def test_personal_frequency_counts_the_history_and_then_popularity(tmp_path: Path) -> None:
    """The own most frequent item leads; popularity orders equals and what was never chosen."""
    train = read(tmp_path, ["v d", "w d", "v c", "u a", "u b", "x b"])
    scores = PersonalFrequencyScorer(train).score([history(train, "abcaa")], None)
    assert ranked(train, scores[0]) == "abcd"


def test_item_knn_scores_are_shrunk_cosines(tmp_path: Path) -> None:
    """a and b share two of their three and two users; a history counts each item once."""
    train = read(tmp_path, ["u a", "u b", "v a", "v b", "w a", "w c", "w a"])
    plain = ItemKnnScorer(train, shrinkage=0).score([history(train, "aa")], None)[0]
    shrunk = ItemKnnScorer(train, shrinkage=4).score([history(train, "a")], None)[0]
    assert plain.tolist() == pytest.approx([0, 2 / math.sqrt(6), 1 / math.sqrt(3)])
    assert shrunk.tolist() == pytest.approx([0, 2 / (math.sqrt(6) + 4), 1 / (math.sqrt(3) + 4)])


def test_item_knn_keeps_to_the_nearest_and_the_most_chosen(tmp_path: Path) -> None:
    """One neighbour means one score; an item outside the most chosen has none and gives none."""
    lines = ["u a", "u b", "v a", "v b", "w a", "w c"]
    train = read(tmp_path, lines)
    one = ItemKnnScorer(train, neighbours=1).score([history(train, "a")], None)[0]
    few = ItemKnnScorer(train, most_chosen=2).score([history(train, "ac")], None)[0]
    assert [train.item_ids[row] for row in np.flatnonzero(one)] == ["b"]
    assert [train.item_ids[row] for row in np.flatnonzero(few)] == ["b"]


def test_item_knn_is_the_whole_table_of_cosines(tmp_path: Path) -> None:
    """With all neighbours the scores are those of the dense table, worked out here."""
    draw = np.random.default_rng(2)
    lines = [f"u{draw.integers(30)} i{draw.integers(50)}" for _ in range(600)]
    train = read(tmp_path, lines)
    asked = [draw.integers(train.item_count, size=6) for _ in range(5)]
    whole = ItemKnnScorer(train, neighbours=50, shrinkage=1).score(asked, None)
    chosen = np.zeros((train.item_count, train.user_count))
    chosen[train.items, train.users] = 1
    shared = chosen @ chosen.T
    norms = np.sqrt(np.outer(chosen.sum(1), chosen.sum(1))) + 1
    cosine = shared / norms
    np.fill_diagonal(cosine, 0)
    by_hand = np.stack([cosine[np.unique(rows)].sum(0) for rows in asked])
    assert whole == pytest.approx(by_hand, abs=1e-5)


def test_markov_counts_what_came_right_after(tmp_path: Path) -> None:
    """b follows a twice, c once; after an item that nothing followed, popularity ranks."""
    train = read(tmp_path, ["u a", "u b", "v a", "v b", "w a", "w c", "x d", "y d", "z d", "t d"])
    markov = MarkovScorer(train)
    after_a, after_c, at_first = markov.score(
        [history(train, "ca"), history(train, "c"), history(train, "")], None
    )
    assert ranked(train, after_a) == "bcda"
    assert ranked(train, after_c) == ranked(train, at_first) == "dabc"


def test_a_planted_chain_is_found_by_markov_and_not_by_popularity(tmp_path: Path) -> None:
    """Where every item leads to the next, the last one tells the target."""
    lines = [
        f"u{user} i{(user + place) % 40}" for user in range(200) for place in range(5 + user % 3)
    ]
    split = leave_one_out(read(tmp_path, lines))
    hits = {
        name: evaluate(make(split.train), split.test, split.train, k=1).section(ALL).metrics["hr@1"]
        for name, make in BASELINES.items()
    }
    assert hits["markov"].value > 0.95
    assert hits["popularity"].value < 0.2


def test_planted_taste_is_found_by_item_knn(tmp_path: Path) -> None:
    """Two groups of users with items of their own: neighbours come from the own group."""
    draw = np.random.default_rng(4)
    lines = [
        f"u{user} {'xy'[user % 2]}{item}"
        for user in range(60)
        for item in draw.choice(20, 8, replace=False)
    ]
    split = leave_one_out(read(tmp_path, lines))
    knn = ItemKnnScorer(split.train)
    for case, target in enumerate(split.test.targets):
        scores = knn.score([split.test.histories[case]], None)[0]
        group = split.train.item_ids[target[0]][0]
        assert all(split.train.item_ids[row][0] == group for row in np.argsort(-scores)[:10])


def test_weekly_baskets_are_found_by_personal_frequency(tmp_path: Path) -> None:
    """Who buys the own two items each week gets them first; popularity cannot know them."""
    lines = [
        f"u{user} i{user * 2 + item} {week}"
        for week in range(5)
        for user in range(30)
        for item in range(2)
    ]
    split = time_split(read(tmp_path, lines), 4_000)
    found = {
        name: evaluate(
            BASELINES[name](split.train), split.test, split.train, k=2, remove_seen=False
        )
        for name in ("personal-frequency", "popularity")
    }
    assert found["personal-frequency"].section(REPEATED).metrics["recall@2"].value == 1
    assert found["popularity"].section(REPEATED).metrics["recall@2"].value < 0.1
