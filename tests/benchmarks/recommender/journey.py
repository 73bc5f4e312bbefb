"""Complete Journey: the next basket's new and repeated items, for baselines, a peer and ours."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

from models.learnt.files import load_recommender
from models.learnt.learnt_recommender import LearntRecommender
from models.recommendation.similarity_recommender import SimilarityRecommender
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.recommender.datasets import (
    JOURNEY,
    complete_journey,
    describe,
    journey_test_from_ms,
)
from tests.benchmarks.recommender.ours import TrainingPlan, train_ours
from tests.benchmarks.recommender.peers import PeerFailed, SasRecOptions, train_sasrec
from tests.benchmarks.recommender.served import ServedScorer
from training.data.splits import Split
from training.evaluation.baselines import ItemKnnScorer, PersonalFrequencyScorer, PopularityScorer
from training.evaluation.evaluate_recommendations import Evaluation, Scorer, evaluate
from training.evaluation.scorer import RecommenderScorer

# 60,000 items leave no room for a softmax over all of them in RecTools (6 GB of logits a batch)
PEER = SasRecOptions(
    epochs=20,
    n_factors=64,
    session_max_len=100,
    batch_size=32,
    loss="sampled_softmax",
    n_negatives=128,
)
# baskets: one of the next basket's items is learnt, not the next line of the receipt
OURS = ("--loss", "sampled-softmax", "--negatives", "4096", "--target", "visit")
SYSTEMS = (
    "popularity", "personal-frequency", "item-knn", "rectools", "ours", "served", "served-rules",
)  # fmt: skip


def run(systems: tuple[str, ...], plan: TrainingPlan, peer_epochs: int) -> None:
    """Measure the systems on one split and print HR@10 and NDCG@10 of each section."""
    split = complete_journey()
    print(f"train: {describe(split.train)}; {len(split.test):,} baskets", file=sys.stderr)
    for name in systems or SYSTEMS:
        started_s = time.monotonic()
        scorer = _scorer(name, split, plan, peer_epochs)
        if scorer is None:
            continue
        trained_s = time.monotonic() - started_s
        found = evaluate(scorer, split.test, split.train, remove_seen=False)
        _print(found, trained_s)


def _scorer(name: str, split: Split, plan: TrainingPlan, peer_epochs: int) -> Scorer | None:
    match name:
        case "popularity":
            return PopularityScorer(split.train)
        case "personal-frequency":
            return PersonalFrequencyScorer(split.train)
        case "item-knn":
            return ItemKnnScorer(split.train)
        case "rectools":
            options = replace(PEER, epochs=peer_epochs, seed=plan.seed, threads=plan.threads)
            try:
                return train_sasrec(split, split.test, options)
            except PeerFailed as error:
                print(f"skipped: {error}", file=sys.stderr)
                return None
        case "served-rules":
            return ServedScorer(
                "rules, as served",
                SimilarityRecommender(),
                split.train,
                journey_test_from_ms(),
                compares_texts=True,
            )
        case _:
            begin = datetime.fromtimestamp(journey_test_from_ms() / 1000, UTC)
            folder = train_ours(
                "journey", shared_file(*JOURNEY), plan, "--protocol", "time-split",
                "--test-from", begin.strftime("%Y-%m-%dT%H:%M:%S"), *OURS,
            )  # fmt: skip
            if name == "served":
                return ServedScorer(
                    "ours, as served",
                    LearntRecommender(load_recommender(folder)),
                    split.train,
                    journey_test_from_ms(),
                    compares_texts=False,
                )
            return RecommenderScorer.load(folder, split.train.item_ids)


def _print(found: Evaluation, trained_s: float) -> None:
    for section in found.sections:
        targets = section.name.split()[0]
        for metric in ("hr@10", "ndcg@10"):
            estimate = section.metrics[metric]
            print_figure(
                f"journey_{targets}_{metric.replace('@', '')}",
                estimate.value,
                "share",
                system=found.scorer,
                interval=[round(estimate.low, 4), round(estimate.high, 4)],
                cases=section.cases,
                ranked=section.candidates,
                trained_s=round(trained_s, 1),
            )
