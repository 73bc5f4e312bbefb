"""A sparse shop with short histories: Amazon's musical instruments, leave-one-out, full ranking."""

from __future__ import annotations

import sys

import numpy as np

from models.metrics import mean_estimate
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.recommender.datasets import INSTRUMENTS, describe
from tests.benchmarks.recommender.ours import TrainingPlan, train_ours
from training.data.interactions import read_interactions
from training.data.splits import leave_one_out
from training.evaluation.baselines import ItemKnnScorer, MarkovScorer, PopularityScorer
from training.evaluation.evaluate_recommendations import ALL, evaluate
from training.evaluation.scorer import RecommenderScorer


def run(plan: TrainingPlan) -> None:
    """Train on it and print NDCG@10 and Recall@10 beside the best of three baselines."""
    file = shared_file(*INSTRUMENTS)
    split = leave_one_out(read_interactions(file))
    print(f"train: {describe(split.train)}; {len(split.test):,} cases", file=sys.stderr)
    folder = train_ours("instruments", file, plan, "--protocol", "leave-one-out")
    scorers = (
        RecommenderScorer.load(folder, split.train.item_ids),
        PopularityScorer(split.train),
        ItemKnnScorer(split.train),
        MarkovScorer(split.train),
    )
    names = ("ours", "popularity", "item-knn", "markov")
    found = {
        name: evaluate(scorer, split.test, split.train).section(ALL)
        for name, scorer in zip(names, scorers, strict=True)
    }
    for metric in ("ndcg@10", "recall@10"):
        values = {name: section.metrics[metric].value for name, section in found.items()}
        peer = max(names[1:], key=values.__getitem__)
        gain = mean_estimate(
            np.asarray(found["ours"].values[metric]) - np.asarray(found[peer].values[metric])
        )
        print_figure(
            f"sparse_{metric.replace('@', '')}",
            values["ours"],
            "share",
            peer=(peer, round(values[peer], 4)),
            over_peer=[round(gain.value, 4), round(gain.low, 4), round(gain.high, 4)],
            systems={name: round(value, 4) for name, value in values.items()},
            cases=found["ours"].cases,
            protocol="leave-one-out, all items ranked, seen removed, ties against the model",
        )
