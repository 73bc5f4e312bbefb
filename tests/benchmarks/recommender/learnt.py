"""The learnt recommender, trained on what the shoppers of a simulated shop did."""

from __future__ import annotations

import sys

from models.learnt.files import LoadedRecommender
from models.learnt.learnt_recommender import LearntRecommender
from models.recommender import RecommenderConfig
from tests.benchmarks.recommender.simulated import World
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.held_out import hold_out_last
from training.recommender.train import RecommenderTraining, train_recommender


def train_on(world: World, seed: int, steps: int = 1_000) -> LearntRecommender:
    """Train a small network on the histories; its epoch is chosen on the last purchases."""
    sequences, rows = world.sequences()
    train, held = hold_out_last(sequences, remove_seen=False)
    config = RecommenderConfig(
        items=train.items,
        text_width=world.trunk.width,
        width=64,
        hidden=128,
        blocks=2,
        gap_buckets=24,
        dropout=0.2,
        id_dropout=0.3,
    )
    found = train_recommender(
        config,
        train,
        held,
        RecommenderTraining(seed=seed, epochs=1, min_steps=steps, max_tokens=2_048),
        LossOptions("softmax"),
    )
    print(
        f"learnt: {found.steps} steps, {found.elapsed_s:.0f} s, validation {found.best:.4f}",
        file=sys.stderr,
    )
    return LearntRecommender(LoadedRecommender(found.network.eval(), list(rows), {}))
