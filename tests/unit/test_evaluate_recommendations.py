"""Figures of recommenders against cases worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.metrics import hit_rate, ndcg, recall, reciprocal_rank
from training.data.interactions import Rows, read_interactions
from training.data.splits import Split, leave_one_out, time_split
from training.evaluation.evaluate_recommendations import (
    ALL,
    NEW,
    REPEATED,
    EvaluationError,
    Popularity,
    coverage_estimate,
    evaluate,
)
from training.evaluation.full_ranking import UNREACHABLE, Scores, case_metrics, rank_case

NOTHING = np.zeros(0, np.int64)


class Fixed:
    """Gives every case the same scores."""

    name = "fixed"

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores, np.float32)
        self.histories: list[Rows] = []

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        self.histories += histories
        return np.tile(self.scores, (len(histories), 1))


def rows(*numbers: int) -> Rows:
    return np.array(numbers, np.int64)


def split_of(tmp_path: Path, *lines: str, test_from_ms: int | None = None) -> Split:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(lines))
    read = read_interactions(path)
    return leave_one_out(read) if test_from_ms is None else time_split(read, test_from_ms)


def test_a_target_stands_behind_every_item_of_its_score() -> None:
    """Ties count against the model: of four equal items the target is the last."""
    equal = np.zeros(4, np.float32)
    assert rank_case(equal, rows(0), NOTHING, 3).places.tolist() == [4]
    assert rank_case(np.float32([3, 1, 2, 1]), rows(2), NOTHING, 3).places.tolist() == [2]
    assert rank_case(np.float32([3, 1, 2, 1]), rows(1), NOTHING, 3).places.tolist() == [4]


def test_removed_items_leave_the_ranking() -> None:
    """What is removed stands before nobody, is not shown, and is missed where it is a target."""
    case = rank_case(np.float32([9, 8, 7, 6]), rows(2, 0), rows(0, 1), 2)
    assert case.places.tolist() == [1, UNREACHABLE]
    assert case.shown.tolist() == [2, 3]


def test_several_targets_have_places_of_their_own() -> None:
    """Targets do not push each other down twice: two best items are first and second."""
    case = rank_case(np.float32([5, 5, 4, 5]), rows(0, 2, 3), NOTHING, 4)
    assert case.places.tolist() == [2, 3, 4]  # behind the rival of the same score


def test_an_item_without_a_score_is_neither_shown_nor_found() -> None:
    """-inf is no score, whether the item is a rival or the target."""
    case = rank_case(np.float32([-np.inf, 1, -np.inf]), rows(0), NOTHING, 3)
    assert case.places.tolist() == [UNREACHABLE]
    assert case.shown.tolist() == [1]


def test_equal_scores_show_the_same_items_always() -> None:
    """Among equals at the end of a list the lower row is shown."""
    assert rank_case(np.float32([1, 2, 1, 1]), rows(3), NOTHING, 2).shown.tolist() == [1, 0]


def test_metrics_are_those_worked_out_by_hand() -> None:
    """Targets at places 1 and 3 of three, and none within k."""
    near = rank_case(np.float32([9, 8, 7, 6, 5]), rows(0, 2, 4), NOTHING, 3)
    far = rank_case(np.float32([9, 8, 7, 6, 5]), rows(4), NOTHING, 3)
    values = case_metrics([near, far], 3)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert values["hr@3"].tolist() == [1, 0]
    assert values["recall@3"].tolist() == pytest.approx([2 / 3, 0])
    assert values["ndcg@3"].tolist() == pytest.approx([(1 + 1 / math.log2(4)) / ideal, 0])
    assert values["mrr@3"].tolist() == [1, 0]


def test_metrics_agree_with_those_of_ranked_lists() -> None:
    """Without ties the figures are those of models.metrics on the list of the best k."""
    draw = np.random.default_rng(3)
    for _ in range(50):
        scores = draw.permutation(40).astype(np.float32)
        targets = draw.choice(40, 5, replace=False)
        removed = np.setdiff1d(draw.choice(40, 8, replace=False), targets)
        case = rank_case(scores, targets, removed, 10)
        shown, right = [str(item) for item in case.shown], {str(item) for item in targets}
        values = {name: float(value[0]) for name, value in case_metrics([case], 10).items()}
        assert values == pytest.approx(
            {
                "hr@10": hit_rate(shown, right, 10),
                "recall@10": recall(shown, right, 10),
                "ndcg@10": ndcg(shown, dict.fromkeys(right, 1.0), 10),
                "mrr@10": reciprocal_rank(shown, right, 10),
            }
        )


def test_one_score_for_all_items_finds_nothing(tmp_path: Path) -> None:
    """A model that cannot tell items apart is not credited for the order of the table."""
    lines = [f"u{user} i{(user * 7 + place) % 30}" for user in range(10) for place in range(5)]
    found = evaluate(Fixed(*[1.0] * 30), (split := split_of(tmp_path, *lines)).test, split.train)
    assert found.section(ALL).metrics["hr@10"].value == 0


def test_leave_one_out_ranks_what_the_user_has_not_had(tmp_path: Path) -> None:
    """Items a, b, c, d by rows 0 to 3: u has had a, b, c and is asked for d; v a and is asked b."""
    split = split_of(tmp_path, "u a", "u b", "u c", "u d", "v a", "v b")
    scorer = Fixed(9, 8, 7, 6)
    removed = evaluate(scorer, split.test, split.train, k=2)
    kept = evaluate(scorer, split.test, split.train, k=2, remove_seen=False)
    assert [section.name for section in removed.sections] == [ALL]
    assert removed.section(ALL).values["mrr@2"].tolist() == [1, 1]
    assert kept.section(ALL).values["mrr@2"].tolist() == [0, 0.5]
    assert [history.tolist() for history in scorer.histories[:2]] == [[0, 1, 2], [0]]


def test_baskets_show_new_and_repeated_items_apart(tmp_path: Path) -> None:
    """New items are ranked among those not had, repeated ones among all; each has its cases."""
    split = split_of(
        tmp_path, "u a 1", "u b 2", "u a 9", "u d 9", "v c 1", "v d 9", "w a 1", "w a 9",
        test_from_ms=9_000,
    )  # fmt: skip
    found = evaluate(Fixed(9, 8, 7, 6), split.test, split.train, k=2, remove_seen=False)
    assert {section.name: section.cases for section in found.sections} == {
        ALL: 3,
        NEW: 2,
        REPEATED: 2,
    }
    by_name = {section.name: section.values["recall@2"].tolist() for section in found.sections}
    assert split.train.item_ids == ("a", "b", "d", "c")  # scores 9, 8, 7, 6
    assert by_name[ALL] == [0.5, 0, 1]  # a, b are shown: u wants a, d; v wants d; w wants a
    assert by_name[NEW] == [1, 0]  # u is shown d, c; v a, b
    assert by_name[REPEATED] == [1, 1]


def test_a_removed_target_counts_as_missed(tmp_path: Path) -> None:
    """Who buys again what is removed from the ranking cannot be served, and it shows."""
    split = split_of(tmp_path, "u a", "u b", "u a")
    assert evaluate(Fixed(9, 8), split.test, split.train).section(ALL).metrics["hr@10"].value == 0


def test_coverage_and_popularity_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    """Two lists show two of five items; their training counts are 3 and 1."""
    split = split_of(tmp_path, "u a", "v a", "w a", "x b", "y c", "y d", "z c", "z e")
    assert split.train.item_ids == ("a", "b", "c", "d", "e")
    popularity = Popularity.of(split.train)  # counts 3, 1, 2, 0, 0
    assert popularity.counts.tolist() == [3, 1, 2, 0, 0]
    assert popularity.percentiles.tolist() == pytest.approx([0.9, 0.5, 0.7, 0.2, 0.2])
    metrics = evaluate(Fixed(5, 4, 0, 0, 0), split.test, split.train, k=2).section(ALL).metrics
    assert metrics["coverage@2"].value == pytest.approx(2 / 5)
    assert metrics["arp@2"].value == pytest.approx(2)
    assert metrics["popularity_percentile@2"].value == pytest.approx(0.7)
    assert metrics["target_popularity_percentile"].value == pytest.approx(0.2)


def test_the_interval_of_coverage_holds_what_other_lists_would_cover() -> None:
    """Lists drawn anew cover a share within the interval about as often as it claims."""
    chances = 1 / np.arange(1, 301)
    chances /= chances.sum()
    draw = np.random.default_rng(5)

    def lists() -> list[Rows]:
        return [draw.choice(300, 5, replace=False, p=chances) for _ in range(80)]

    truth = float(np.mean([coverage_estimate(lists(), 300).value for _ in range(100)]))
    estimates = [coverage_estimate(lists(), 300) for _ in range(100)]
    inside = sum(found.low <= truth <= found.high for found in estimates)
    assert inside >= 90


@pytest.mark.parametrize("scores", [(1.0, math.nan), (1.0,)])
def test_scores_that_are_none_are_refused(tmp_path: Path, scores: tuple[float, ...]) -> None:
    """NaN and a wrong shape end the evaluation with a sentence, never with a figure."""
    split = split_of(tmp_path, "u a", "u b")
    with pytest.raises(EvaluationError, match="fixed gave scores"):
        evaluate(Fixed(*scores), split.test, split.train)


def test_no_cases_are_refused(tmp_path: Path) -> None:
    """An empty validation part is said, not shown as NaN."""
    split = split_of(tmp_path, "u a", "u b")
    with pytest.raises(EvaluationError, match="no case"):
        evaluate(Fixed(1, 2), split.validation, split.train)
