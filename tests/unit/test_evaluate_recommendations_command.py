"""`shopstream evaluate recommendations`: text and JSON, baselines and a recommender's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from models.learnt.files import load_recommender, save_recommender
from models.recommender import RecommenderConfig, RecommenderNetwork
from tests.support.tiny_trunk import write_tiny_trunk
from training.evaluation.evaluate_recommendations import EvaluationError
from training.evaluation.scorer import RecommenderScorer, recommender_folder
from worker.commands import shopstream


@pytest.fixture
def interactions(tmp_path: Path) -> Path:
    """30 users walk a ring of 12 items, each from a place of their own, two events at a time."""
    lines = [
        f"u{user} i{(user + place) % 12} {1_600_000_000 + place * 60}"
        for place in range(6)
        for user in range(30)
    ]
    path = tmp_path / "ring.txt"
    path.write_text("\n".join([*lines, "u1 i2", "solo i3 1600000000"]))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fresh network that knows all items but i11, inside a release folder."""
    torch.manual_seed(1)
    network = RecommenderNetwork(
        RecommenderConfig(items=11, width=8, blocks=1, heads=1, hidden=8, max_events=4)
    )
    save_recommender(tmp_path / "release" / "recommender", network, [f"i{n}" for n in range(11)])
    return tmp_path / "release"


def run(*arguments: object) -> tuple[str, str]:
    """Return standard output and standard error of a command that succeeds."""
    done = CliRunner().invoke(
        shopstream, ["evaluate", "recommendations", *map(str, arguments)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def document(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json")[0])
    return found


def test_text_spells_the_protocol_and_counts_what_was_left_out(interactions: Path) -> None:
    """People read the protocol, the number of cases, each skip, and every figure's interval."""
    out, err = run("--interactions", interactions)
    assert "leave-one-out, test" in out
    assert "FULL ranking of all 12 items" in out
    assert "items of the user's history are removed from the ranking" in out
    assert "30 cases with 30 targets" in out
    assert "users with one event, not tested (kept for training): 1" in out
    for name in ("hr@10", "recall@10", "ndcg@10", "mrr@10", "coverage@10", "arp@10"):
        assert any(
            line.split()[0] == name and "[" in line for line in out.splitlines() if line.strip()
        )
    assert "skipped 1 rows that are no interaction: line 181" in err


def test_json_is_one_document_with_every_figure(interactions: Path) -> None:
    """Machines read protocol, data, systems and paired differences from one JSON document."""
    found = document(
        "--interactions", interactions, "--baseline", "popularity", "--baseline", "markov", "--k", 1
    )
    assert found["protocol"] == "leave-one-out"
    assert found["seen_items"] == "removed"
    assert found["interactions"]["bad_rows"] == 1
    assert [system["system"] for system in found["systems"]] == ["popularity", "markov"]
    markov = found["systems"][1]["sections"][0]
    assert markov["cases"] == 30
    assert markov["metrics"]["hr@1"]["value"] == 1  # the ring is first-order
    assert set(markov["metrics"]["hr@1"]) == {"value", "low", "high", "cases"}
    difference = found["ndcg_differences"][0]
    assert (difference["system"], difference["minus"]) == ("markov", "popularity")
    assert difference["difference"]["low"] > 0


def test_the_flag_of_seen_items_is_heard_and_told(interactions: Path) -> None:
    """--keep-seen ranks the history too, and the words and the figures say so."""
    kept = document("--interactions", interactions, "--keep-seen", "--baseline", "markov")
    assert kept["seen_items"] == "kept"
    assert "are kept in the ranking" in kept["protocol_in_words"]
    assert kept["systems"][0]["sections"][0]["candidates"] == "every item"


def test_a_time_split_is_told_with_its_parts(interactions: Path) -> None:
    """By time: the test begins where asked, and validation is the part before it."""
    time = ("--interactions", interactions, "--protocol", "time-split")
    test = document(*time, "--test-from", "2020-09-13T12:30:00")
    assert "split by time, test" in test["protocol_in_words"]
    assert test["seen_items"] == "kept"
    assert test["train_interactions"] == 121  # four rounds of 30, and solo
    assert "users without an event after the split, not tested: 1" in test["notes"]
    validation = document(*time, "--part", "validation", "--test-share", 0.2)
    assert "split by time, validation" in validation["protocol_in_words"]
    assert validation["train_interactions"] < test["train_interactions"]


def test_a_release_is_scored_and_unknown_items_are_told(interactions: Path, folder: Path) -> None:
    """A recommender inside a release is ranked over all items; those it lacks are out of reach."""
    out, err = run("--interactions", interactions, "--release", folder, "--json")
    found = json.loads(out)
    assert found["systems"][0]["system"] == "release"
    assert "was not trained on 1 of the items" in err
    scorer = RecommenderScorer.load(folder, [f"i{n}" for n in range(12)])
    scores = scorer.score([np.arange(3)], None)
    assert scores.shape == (1, 12)
    assert np.isneginf(scores[0, 11])
    assert np.isfinite(scores[0, :11]).all()


def test_scores_are_the_networks_and_do_not_depend_on_the_batch(folder: Path) -> None:
    """A case's scores are its shopper vector times the item vectors, whatever stands beside it."""
    loaded = load_recommender(folder / "recommender")
    scorer = RecommenderScorer(loaded, loaded.item_ids)
    histories = [np.array(rows, np.int64) for rows in ([0, 1], [5, 4, 3, 2, 1, 0], [], [7])]
    together = scorer.score(histories, None)
    alone = np.concatenate([scorer.score([history], None) for history in histories])
    assert together == pytest.approx(alone, abs=1e-6)
    newest = scorer.score([histories[1][-4:]], None)  # max_events is 4
    assert together[1] == pytest.approx(newest[0], abs=1e-6)
    assert len({row.tobytes() for row in together}) == 4


def test_successors_count_in_the_scores_wherever_the_items_stand(folder: Path) -> None:
    """What follows the last purchase gains the network's bonus, in any order of the items."""
    loaded = load_recommender(folder / "recommender")
    orders = [loaded.item_ids, ["i99", *loaded.item_ids[::-1][:-1]]]  # the second one without i0
    plain = [RecommenderScorer(loaded, order).score([np.array([2])], None)[0] for order in orders]
    successors = loaded.network.successors
    for successor in (0, 5):
        successors.items[:, successor] = successor
        successors.counts[:, successor] = 3
    for order, before in zip(orders, plain, strict=True):
        after = RecommenderScorer(loaded, order).score([np.array([2])], None)[0]
        assert {order[row] for row in np.flatnonzero(after > before)} == {"i0", "i5"} & {*order}
        assert (after >= before).all()


def test_neighbours_count_in_the_scores_wherever_the_items_stand(folder: Path) -> None:
    """What goes with anything bought gains by the trust, in any order of the items."""
    loaded = load_recommender(folder / "recommender")
    orders = [loaded.item_ids, ["i99", *loaded.item_ids[::-1][:-1]]]  # the second one without i0

    def scores(order: list[str]) -> dict[str, float]:
        bought = np.array([order.index(i) for i in ("i2", "i1")])
        found = RecommenderScorer(loaded, order).score([bought], None)[0]
        return {i: float(score) for i, score in zip(order, found, strict=True) if i != "i99"}

    plain = [scores(order) for order in orders]
    weights = np.zeros((len(loaded.item_ids), len(loaded.item_ids)))
    weights[loaded.item_ids.index("i2"), [loaded.item_ids.index(i) for i in ("i0", "i5")]] = 1.0
    loaded.network.neighbours.remember(np.arange(len(weights)), weights)
    loaded.network.neighbours.trust.fill_(3.0)
    for order, before in zip(orders, plain, strict=True):
        gains = {i: score - before[i] for i, score in scores(order).items()}
        assert {i for i, gain in gains.items() if gain} == {"i0", "i5"} & {*order}
        assert gains["i5"] == pytest.approx(3.0 * 2**-0.2, rel=1e-3)


def test_events_of_unknown_items_are_left_out(folder: Path) -> None:
    """An item without a vector changes nothing in a history."""
    scorer = RecommenderScorer.load(folder, [f"i{n}" for n in range(12)])
    with_it, without = scorer.score([np.array([1, 11, 2]), np.array([1, 2])], None)
    assert (with_it == without).all()


def test_a_folder_that_fits_nothing_is_refused(interactions: Path, folder: Path) -> None:
    """No recommender, or one of another catalogue, ends with a sentence."""
    assert recommender_folder(folder) == folder / "recommender"
    with pytest.raises(EvaluationError, match="knows none of the 2 items"):
        RecommenderScorer.load(folder, ["x", "y"])
    done = CliRunner().invoke(
        shopstream,
        ["evaluate", "recommendations", "--interactions", str(interactions), "--release",
         str(interactions.parent)],
    )  # fmt: skip
    assert type(done.exception).__name__ == "ModelUnavailable"


def test_texts_that_are_needed_are_asked_for(tmp_path: Path) -> None:
    """A network that reads texts scores an unseen item by its text, and asks for texts it lacks."""
    network = RecommenderNetwork(
        RecommenderConfig(items=2, text_width=3, width=8, blocks=1, heads=1, hidden=8)
    )
    save_recommender(tmp_path, network, ["a", "b"])
    loaded = load_recommender(tmp_path)
    with pytest.raises(EvaluationError, match="--products"):
        RecommenderScorer(loaded, ["a", "b", "new"])
    texts = np.eye(3, dtype=np.float32)
    scores = RecommenderScorer(loaded, ["a", "b", "new"], text_vectors=texts).score(
        [np.array([0, 2])], None
    )
    assert np.isfinite(scores).all()


def test_a_release_with_texts_ranks_products_that_training_never_met(
    interactions: Path, tmp_path: Path
) -> None:
    """The release's own trunk encodes --products, so an item without a row has a score too."""
    release = write_tiny_trunk(tmp_path / "shop-release")
    network = RecommenderNetwork(
        RecommenderConfig(items=11, text_width=32, width=8, blocks=1, heads=1, hidden=8)
    )
    save_recommender(release / "recommender", network, [f"i{n}" for n in range(11)])
    products = tmp_path / "products.jsonl"
    lines = [{"product_id": f"i{n}", "title": f"red shoe {'running ' * n}"} for n in range(12)]
    products.write_text("\n".join(map(json.dumps, lines)))
    found = document(
        "--interactions", interactions, "--release", release, "--products", products,
        "--keep-seen", "--k", 12,
    )  # fmt: skip
    hits = found["systems"][0]["sections"][0]["metrics"]["hr@12"]
    assert hits["value"] == 1  # i11 is a target of some, and in reach
