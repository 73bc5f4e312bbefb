"""How well a trunk finds what was bought and what answered, case by case, as the worker ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.metrics import Values, ranking_values
from models.product_index import IndexedProduct
from models.search.product_vectors import ProductVectors
from models.text_encoder import TextEncoder
from training.dataset import Row
from training.evaluation.cases import Evaluation, Statistic
from training.evaluation.evaluate_answers import JudgedQuestion, rank_candidates
from training.evaluation.evaluate_search import build_index, rank_queries

K = 10
# A task with fewer cases counts in the primary metric, but is no guard of its own.
_GUARDED_CASES = 50


def search_values(
    trunk: TextEncoder,
    products: Sequence[IndexedProduct],
    stored: ProductVectors | None,
    tested: Sequence[Row],
) -> dict[str, Values]:
    """Return metric -> value of each tested search, in the order of the rows."""
    rows = [row for row in tested if row["kind"] == "search"]
    if not rows:
        return {}
    index = build_index(trunk, products, stored)
    queries = list(dict.fromkeys(row["query"] for row in rows))
    ranked = rank_queries(trunk, index, {query: query for query in queries}, K)
    run = {
        str(number): [product for product, _ in ranked[row["query"]]]
        for number, row in enumerate(rows)
    }
    values = ranking_values(run, {str(n): {row["positive"]: 1.0} for n, row in enumerate(rows)}, K)
    return {"ndcg@10": values[f"ndcg@{K}"], "hr@10": values[f"hr@{K}"]}


def answer_values(trunk: TextEncoder, questions: Sequence[JudgedQuestion]) -> dict[str, Values]:
    """Return metric -> value of each question, in the order of the rows."""
    if not questions:
        return {}
    run: dict[str, list[str]] = {}
    qrels: dict[str, dict[str, float]] = {}
    for number, ranked in enumerate(rank_candidates(trunk, questions)):
        run[str(number)] = [str(place) for place, _ in ranked]
        qrels[str(number)] = {
            str(place): gain for place, gain in enumerate(questions[number].relevance)
        }
    whole = ranking_values(run, qrels, max(len(one.candidates) for one in questions))
    top, first = ranking_values(run, qrels, K), ranking_values(run, qrels, 1)
    mrr = next(values for name, values in whole.items() if name.startswith("mrr@"))
    return {"ndcg@10": top[f"ndcg@{K}"], "mrr": mrr, "p@1": first["precision@1"]}


def joint_evaluation(
    tested: Sequence[Row], values: Mapping[str, Mapping[str, Values]]
) -> Evaluation:
    """Join the tasks: nDCG@10 of every case decides, each task's own figures are guards."""
    of_task = {
        "search": np.array([row["kind"] == "search" for row in tested]),
        "answers": np.array([row["kind"] == "answer" for row in tested]),
    }
    ndcg = np.zeros(len(tested))
    guards: dict[str, Statistic] = {}
    for task, found in values.items():
        rows = of_task[task]
        for metric, its in found.items():
            spread = np.full(len(tested), np.nan)
            spread[rows] = its
            if metric == f"ndcg@{K}":
                ndcg[rows] = its
            if _GUARDED_CASES <= rows.sum() < len(tested) or (rows.all() and metric != f"ndcg@{K}"):
                guards[f"{task} {metric}"] = _mean_of(spread)
    return Evaluation(f"ndcg@{K}", {f"ndcg@{K}": ndcg}, guards)


def _mean_of(values: Values) -> Statistic:
    """Return the mean over those of the asked cases that are of the task."""

    def mean(rows: Any) -> float:
        found = values[rows]
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else 0.0

    return mean
