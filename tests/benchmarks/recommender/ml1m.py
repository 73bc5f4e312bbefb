"""MovieLens-1M, leave-one-out, full ranking, seen items removed, beside published figures."""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

import numpy as np

from models.metrics import mean_estimate
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.recommender.datasets import ML_1M, describe, ml_1m
from tests.benchmarks.recommender.ours import TrainingPlan, train_ours
from training.data.splits import Cases, Split
from training.evaluation.evaluate_recommendations import ALL, Section, evaluate
from training.evaluation.scorer import RecommenderScorer

# NDCG@10 and Recall@10 on these very items with the same rules. HSTU-large's .1893/.3294 knows the
# time of the item asked for and ranks other items: no like for like.
PUBLISHED = {
    "SASRec": (0.1259, 0.2392),
    "gSASRec": (0.1726, 0.3003),
    "SASRec+": (0.1857, 0.3159),
}
QUICK_MINUTES = 10.0
QUICK_RECIPE = (
    "--blocks", "3", "--dropout", "0.2", "--learning-rate", "0.0015", "--validate-every", "5",
)  # fmt: skip
RECIPE = (
    "--blocks", "8", "--epochs", "18", "--min-steps", "0", "--weight-decay", "1",
    "--validate-every", "2",
)  # fmt: skip


def run(plan: TrainingPlan, seeds: int, quick: bool) -> None:
    """Train `seeds` times (or measure a folder) and print validation and test, each metric."""
    split = ml_1m()
    print(f"train: {describe(split.train)}; {len(split.test):,} cases", file=sys.stderr)
    if quick:
        plan, seeds = replace(plan, minutes=plan.minutes or QUICK_MINUTES), 1
    recipe = QUICK_RECIPE if quick else RECIPE
    plan = replace(plan, arguments=(*recipe, *plan.arguments))
    tests: list[Section] = []
    validations: list[float] = []
    for number in range(1 if plan.release is not None else seeds):
        seeded = replace(plan, seed=plan.seed + number)
        folder = train_ours(
            "ml1m-quick" if quick else "ml1m",
            shared_file(*ML_1M),
            seeded,
            "--protocol",
            "leave-one-out",
        )
        scorer = RecommenderScorer.load(folder, split.train.item_ids)
        validations.append(_measure(scorer, split, split.validation).metrics["ndcg@10"].value)
        tests.append(_measure(scorer, split, split.test))
        said = ", ".join(f"{name} {value}" for name, value in tests[-1].metrics.items())
        print(f"seed {seeded.seed}: validation {validations[-1]:.4f}; test {said}", file=sys.stderr)
    goal = ">= 0.18 (quick)" if quick else ">= 0.205, mean of three seeds"
    for place, (metric, figure) in enumerate(
        (("ndcg@10", "ml1m_ndcg10"), ("recall@10", "ml1m_recall10"))
    ):
        values = [section.metrics[metric].value for section in tests]
        # interval of the mean of the seeds, over users
        means = np.mean([section.values[metric] for section in tests], axis=0)
        estimate = mean_estimate(means)
        print_figure(
            figure,
            values,
            "share",
            goal=goal if metric == "ndcg@10" else None,
            peer=("SASRec+ (published)", PUBLISHED["SASRec+"][place]),
            mean=round(statistics.fmean(values), 4),
            interval=[round(estimate.low, 4), round(estimate.high, 4)],
            cases=len(means),
            validation_ndcg10=[round(value, 4) for value in validations],
            published={name: pair[place] for name, pair in PUBLISHED.items()},
            protocol="leave-one-out, all items ranked, seen removed, ties against the model",
        )


def _measure(scorer: RecommenderScorer, split: Split, cases: Cases) -> Section:
    return evaluate(scorer, cases, split.train).section(ALL)
