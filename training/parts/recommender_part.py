"""The recommender, from next-item samples: trained anew, judged as the worker serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from models.learnt.files import load_recommender, save_recommender
from models.learnt.learnt_recommender import LearntRecommender
from models.metrics import ranking_values
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Recommender
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.releases.folder import RECOMMENDER
from training.dataset import Kind, Row, SampleReport
from training.evaluation.cases import Evaluation
from training.parts.part import NotTrainable, Pace, PartContext, TrainablePart
from training.parts.shop_replay import shop_demand, shop_index, shoppers_of
from training.recommender.job import SplitOptions, add_texts, figures, lineage, shape, split
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.event_sequences import UnfitTrainingData
from training.recommender.sequences.sample_events import gather_events, to_sequences
from training.recommender.train import RecommenderTraining, TrainingFailed, train_recommender

K = 10
_SHOPPERS_AT_ONCE = 128


class RecommenderPart:
    """What a shopper buys next."""

    name = RECOMMENDER
    kinds: tuple[Kind, ...] = ("next-item",)
    bound: tuple[TrainablePart, ...] = ()
    pace = Pace()

    def __init__(
        self,
        products: Path | None = None,
        options: RecommenderTraining | None = None,
        **network: Any,
    ) -> None:
        """Train with these options and network fields; `products` gives the items' texts."""
        self._file = products
        self._options = options or RecommenderTraining(time_limit_s=1_800.0)
        self._network = network

    @property
    def _products(self) -> Path | None:
        # made by the export, which comes after this part
        return self._file if self._file is not None and self._file.is_file() else None

    def standing(self, release: Path) -> Path | None:
        """Return the recommender's folder in a release."""
        folder = release / RECOMMENDER
        return folder if folder.is_dir() else None

    def reads_trunk(self, folder: Path) -> bool:
        """Say whether the network was trained on a trunk's text vectors, and not on ids alone."""
        return load_recommender(folder).network.config.text_width > 0

    def train(
        self, context: PartContext, rows: Sequence[Row], start: Path | None, out: Path
    ) -> dict[str, Any]:
        """Train a network from nothing: its item table changes with the catalogue."""
        options = replace(self._options, seed=context.seed)
        loss = LossOptions()
        try:
            sequences, queries = to_sequences(gather_events(rows, SampleReport()))
            if self._products is not None:
                sequences = add_texts(sequences, self._products, queries, context.trunk)
            parts = split(sequences, SplitOptions())
            config = shape(parts.train, **self._network)
            trained = train_recommender(
                config, parts.train, parts.validation, options, loss,
                accelerator=Accelerator(cpu=context.device == "cpu"),
            )  # fmt: skip
        except (UnfitTrainingData, TrainingFailed) as error:
            raise NotTrainable(str(error)) from error
        found = figures(trained, parts)
        told = lineage(config, options, loss, found, [f"{len(rows)} next-item samples"])
        if self._products is not None:
            told |= {"trunk": context.trunk.release}
        save_recommender(out, trained.network, sequences.item_ids, told)
        return found | {"items": config.items, "warm_start": False}

    def evaluate(
        self,
        context: PartContext,
        folders: Sequence[Path | None],
        known: Sequence[Row],
        tested: Sequence[Row],
    ) -> list[Evaluation]:
        """Judge lists of ten by hit rate and nDCG; without a folder text similarity serves."""
        shoppers = shoppers_of(tested, context.trunk)
        index = shop_index(
            context.trunk, self._products, [*known, *tested], context.product_vectors
        )
        demand = shop_demand(known, min((one.now_ms for one in shoppers), default=0))
        rules = RecommendationRules()
        qrels = {
            str(number): dict.fromkeys(row["next_products"], 1.0)
            for number, row in enumerate(tested)
        }
        found: list[Evaluation] = []
        for folder in folders:
            recommender = _recommender(folder, context.device)
            run: dict[str, list[str]] = {}
            for begin in range(0, len(shoppers), _SHOPPERS_AT_ONCE):
                some = shoppers[begin : begin + _SHOPPERS_AT_ONCE]
                lists = recommend_within(rules, recommender, some, demand, index, K)
                for place, items in enumerate(lists):
                    run[str(begin + place)] = [item.product_id for item in items]
            values = ranking_values(run, qrels, K)
            kept = {name: np.asarray(values[name]) for name in (f"hr@{K}", f"ndcg@{K}")}
            found.append(Evaluation(f"hr@{K}", kept))
        return found


def _recommender(folder: Path | None, device: str) -> Recommender:
    if folder is None:
        return SimilarityRecommender()
    return LearntRecommender(load_recommender(folder, device))
