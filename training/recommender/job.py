"""From files to a recommender's folder: read, split, train, measure, save.

The splits are those of `shopstream evaluate recommendations`, so that what it asks was not trained
on; what validates is cut from the training part.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.recommender import RecommenderConfig
from models.text_encoder import TextTrunk
from training.data.interactions import Interactions
from training.data.rows import ReadReport
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.event_sequences import (
    EventSequences,
    UnfitTrainingData,
    from_purchases,
)
from training.recommender.sequences.held_out import (
    HeldOut,
    hold_out_after,
    hold_out_last,
    ndcg_and_hit_rate,
    ranks,
    repeats_purchases,
)
from training.recommender.sequences.item_texts import read_product_texts, with_texts
from training.recommender.sequences.sample_events import read_sample_events, to_sequences
from training.recommender.train import RecommenderTraining, TrainedRecommender

logger = logging.getLogger(__name__)

Protocol = Literal["production", "leave-one-out", "time-split"]
GAP_BUCKETS = 28  # 2^27 s are four years


@dataclass(frozen=True, slots=True)
class Parts:
    """What is trained on, what chooses the epoch, and what only the last figures may see."""

    train: EventSequences
    validation: HeldOut | None
    test: HeldOut | None
    remove_seen: bool  # what a shopper has bought is no candidate


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How purchases are kept from training.

    `production` keeps back what validates alone; `leave-one-out` each shopper's last purchase too,
    `time-split` all events from `test_from_s` on (None: the newest `test_share`).
    """

    protocol: Protocol = "production"
    test_from_s: float | None = None
    test_share: float = 0.2
    validate: bool = True  # False: what would validate is trained on too
    validation_share: float = 0.1  # of the events, by time; without times each shopper's last
    remove_seen: bool | None = None  # None: where no shopper buys a thing twice


def sequences_of(interactions: Interactions) -> EventSequences:
    """Return plain purchases; raises UnfitTrainingData."""
    times_ms = interactions.timestamps_ms
    times_s = None if times_ms is None else times_ms / 1000.0
    return from_purchases(interactions.users, interactions.items, interactions.item_ids, times_s)


def read_samples(
    folder: Path, products: Path | None, trunk: TextTrunk | None
) -> tuple[EventSequences, list[str]]:
    """Return the events of exported samples, with texts where a trunk is given, and a report."""
    found = read_sample_events(folder)
    sequences, queries = to_sequences(found)
    if trunk is not None:
        sequences = add_texts(sequences, products, queries, trunk)
    return sequences, found.report.sentences()


def add_texts(
    sequences: EventSequences, products: Path | None, queries: list[str], trunk: TextTrunk
) -> EventSequences:
    """Return the sequences with vectors of products and queries; tells what was skipped."""
    report = ReadReport()
    texts = {} if products is None else read_product_texts(products, report)
    for sentence in report.sentences():
        logger.warning("%s", sentence)
    return with_texts(sequences, texts, queries, trunk)


def split(sequences: EventSequences, options: SplitOptions) -> Parts:
    """Return the parts of a protocol; raises UnfitTrainingData."""
    remove = options.remove_seen
    if remove is None:
        remove = not repeats_purchases(sequences)
    rest, test = sequences, None
    if options.protocol == "leave-one-out":
        rest, test = hold_out_last(sequences, remove)
    elif options.protocol == "time-split":
        moment_s = options.test_from_s
        if moment_s is None:
            moment_s = newest_share_s(sequences, options.test_share)
        rest, test = hold_out_after(sequences, moment_s, remove)
    if not options.validate:
        return Parts(rest, None, test, remove)
    by_time = rest.times_s is not None and options.protocol != "leave-one-out"
    if by_time:
        moment_s = newest_share_s(rest, options.validation_share)
        train, validation = hold_out_after(rest, moment_s, remove)
    else:
        train, validation = hold_out_last(rest, remove)
    return Parts(train, validation, test, remove)


def newest_share_s(sequences: EventSequences, share: float) -> float:
    """Return the time from which on this share of the events lies; raises UnfitTrainingData."""
    if sequences.times_s is None:
        raise UnfitTrainingData(
            "a split by time needs a timestamp for every interaction; add them or choose "
            "--protocol leave-one-out"
        )
    times = np.sort(sequences.times_s)
    return float(times[min(len(times) - 1, round(len(times) * (1 - share)))])


def shape(sequences: EventSequences, **fields: Any) -> RecommenderConfig:
    """Return the network's shape for this data: texts and times where there are some."""
    texts = sequences.text_vectors
    return RecommenderConfig(
        items=sequences.items,
        text_width=0 if texts is None else texts.shape[1],
        gap_buckets=0 if sequences.times_s is None else GAP_BUCKETS,
        **fields,
    )


def figures(trained: TrainedRecommender, parts: Parts) -> dict[str, Any]:
    """Return what the training cost and how well its purchases are ranked among all items."""
    found: dict[str, Any] = {
        "elapsed_s": round(trained.elapsed_s, 1),
        "steps": trained.steps,
        "epochs": len(trained.epochs),
        "remove_seen": parts.remove_seen,
    }
    if trained.network.config.neighbours:
        found["neighbour_trust"] = float(trained.network.neighbours.trust)
    for name, held in (("validation", parts.validation), ("test", parts.test)):
        if held is not None:
            ndcg, hits = ndcg_and_hit_rate(ranks(trained.network, held))
            found[name] = {"ndcg@10": ndcg, "hr@10": hits, "cases": len(held.targets)}
    return found


def lineage(
    config: RecommenderConfig,
    options: RecommenderTraining,
    loss: LossOptions,
    found: dict[str, Any],
    data: list[str],
) -> dict[str, Any]:
    """Return what a release tells of how the recommender came about."""
    return {
        "data": data,
        "training": {**asdict(options), **asdict(loss)},
        "figures": found,
        "items": config.items,
    }
