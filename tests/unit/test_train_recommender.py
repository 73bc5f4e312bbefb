"""Recommender training: it learns what is there, goes on where it was, and stops when it must."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.recommender import RecommenderConfig
from tests.support.planted_shop import ITEMS, planted_sequences
from training.recommender.checkpoint import FILE_NAME, CheckpointUnfit
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.held_out import hold_out_last, ndcg_and_hit_rate, ranks
from training.recommender.train import (
    RecommenderTraining,
    TrainedRecommender,
    TrainingFailed,
    train_recommender,
)

CONFIG = RecommenderConfig(
    items=ITEMS, width=16, blocks=1, heads=1, hidden=16, max_events=10, dropout=0.1
)
OPTIONS = RecommenderTraining(
    seed=1, epochs=4, max_tokens=300, learning_rate=3e-2, warmup_steps=5, average_decay=0.9,
    precision="fp32", checkpoint_every_s=0.0, min_steps=0, validate_every=1,
)  # fmt: skip


SOFTMAX = LossOptions()


def train(
    options: RecommenderTraining = OPTIONS,
    loss: LossOptions = SOFTMAX,
    checkpoints: Path | None = None,
    **more: object,
) -> TrainedRecommender:
    train_part, held = hold_out_last(planted_sequences(), remove_seen=False)
    return train_recommender(CONFIG, train_part, held, options, loss, checkpoints, **more)


def test_training_without_validation_keeps_the_last_weights() -> None:
    """Nothing is validated without held-out purchases; all the epochs run and their end is kept."""
    sequences, held = hold_out_last(planted_sequences(), remove_seen=False)
    options = replace(OPTIONS, epochs=8, patience=1)
    trained = train_recommender(CONFIG, sequences, None, options, SOFTMAX)
    assert len(trained.epochs) == 8
    assert trained.best == -1
    assert all("ndcg@10" not in row for row in trained.epochs)
    assert float((ranks(trained.network, held) == 0).mean()) > 0.6


@pytest.mark.parametrize(
    ("loss", "precision"),
    [("softmax", "fp32"), ("softmax", "bf16"), ("sampled-softmax", "fp32"), ("gbce", "fp32")],
)
def test_training_learns_the_rule(loss: str, precision: str) -> None:
    """Every loss finds the planted rule: the right item first far more often than chance."""
    options = replace(OPTIONS, epochs=8, precision=precision)
    trained = train(options, LossOptions(loss=loss, negatives=30))
    _, held = hold_out_last(planted_sequences(), remove_seen=False)
    first = float((ranks(trained.network, held) == 0).mean())
    assert first > 0.6  # chance is 1 in 40, popularity no better
    assert trained.best > 0.7


def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """A training stopped in the middle of an epoch and resumed gives the same weights."""
    whole = train()

    class Stop(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.epoch == 1 and progress.batch == 3:
            raise Stop

    with pytest.raises(Stop):
        train(checkpoints=tmp_path, report=stop)
    resumed = train(checkpoints=tmp_path, resume=True)
    assert resumed.steps == whole.steps
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert [row["loss"] for row in whole.epochs] == [row["loss"] for row in resumed.epochs]


def test_same_seed_same_weights_other_seed_others() -> None:
    """The seed fixes the weights to the bit."""
    options = replace(OPTIONS, epochs=1)
    first, second = train(options).network.state_dict(), train(options).network.state_dict()
    other = train(replace(options, seed=2)).network.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["item_embedding.weight"], other["item_embedding.weight"])


def test_a_loss_that_is_no_number_stops_with_what_to_try() -> None:
    """A learning rate that blows the weights up ends the training with advice, not with NaN."""
    with pytest.raises(TrainingFailed, match="lower learning rate"):
        train(replace(OPTIONS, learning_rate=1e30, max_gradient=1e30, warmup_steps=1))


def test_checkpoints_of_other_trainings_are_refused(tmp_path: Path) -> None:
    """What differs is named; a missing or damaged checkpoint is told with what to do."""
    with pytest.raises(CheckpointUnfit, match="no checkpoint"):
        train(checkpoints=tmp_path, resume=True)
    train(replace(OPTIONS, epochs=1), checkpoints=tmp_path)
    with pytest.raises(CheckpointUnfit, match="epochs, seed differ"):
        train(replace(OPTIONS, seed=3), checkpoints=tmp_path, resume=True)
    (tmp_path / FILE_NAME).write_bytes(b"\x01" * 99)
    with pytest.raises(CheckpointUnfit, match="delete it"):
        train(checkpoints=tmp_path, resume=True)


def test_training_stops_early_and_keeps_the_best() -> None:
    """Without a better validation it stops after the patience, with the best weights."""
    options = replace(OPTIONS, epochs=60, patience=2, neighbour_trust=0.0)
    trained = train(options)
    assert len(trained.epochs) < 60
    found = [row["ndcg@10"] for row in trained.epochs]
    assert trained.best == max(found)
    _, held = hold_out_last(planted_sequences(), remove_seen=False)
    assert ndcg_and_hit_rate(ranks(trained.network, held))[0] == pytest.approx(max(found))


def test_time_limit_ends_the_training(caplog: pytest.LogCaptureFixture) -> None:
    """With a time limit the training ends in the middle of its epochs, validated."""
    caplog.set_level(logging.INFO)
    started = time.monotonic()
    trained = train(replace(OPTIONS, epochs=100_000, time_limit_s=1.0, patience=100_000))
    assert time.monotonic() - started < 60
    assert trained.elapsed_s >= 1.0
    assert "ndcg@10" in trained.epochs[-1]


def test_validation_ranks_as_a_plain_sort_would() -> None:
    """Places follow the scores; ties stand above, seen items are no candidates if so asked."""
    _, held = hold_out_last(planted_sequences(20, kept=0.5), remove_seen=True)
    network = train(replace(OPTIONS, epochs=1, neighbour_trust=2.0)).network
    found = ranks(network, held)
    for case in range(len(held.targets)):
        batch = held.sequences.history_batch(held.starts[[case]], held.ends[[case]])
        shopper = network.encode_histories(batch)
        scores = shopper @ network.encode_items(None, None).T
        for bonus in network.bonuses(batch, shopper):
            bonus.add_to(scores)
        scores = scores[0]
        seen = set(held.sequences.inputs[held.starts[case] : held.ends[case]].tolist())
        target = int(held.targets[case])
        above = [
            item
            for item in range(ITEMS)
            if item != target and item not in seen and scores[item] >= scores[target]
        ]
        assert found[case] == len(above)
    assert np.array_equal(found, ranks(network, held.part(0, 1)))
