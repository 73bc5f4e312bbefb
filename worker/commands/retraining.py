"""One retraining job with all around it: lock, export, base release, training, promotion.

It stands in this room because only this room may reach both the worker's side and training.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.releases.publish import SENTIMENT, publish_folder
from models.releases.store import ReleaseStore
from worker.errors import ShopstreamError
from worker.settings import Settings
from worker.store.job_lock import JobLock
from worker.topics.product_export import export_products
from worker.topics.release_moves import open_store, promote, read_pointer, try_candidate
from worker.topics.sample_export import export_samples

if TYPE_CHECKING:
    from training.job.options import JobOptions
    from training.job.run import JobReport
    from training.parts.part import TrainablePart


class NoBase(ShopstreamError):
    """There is nothing to train from."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """A job's choices beside those of training; `trial_share` 0: what passes serves all."""

    options: JobOptions
    parts: tuple[TrainablePart, ...]
    export: bool = True
    trial_share: float = 0.0


def retrain(settings: Settings, wanted: Retraining) -> JobReport:
    """Run one job under the lock.

    Raises JobRuns, LockLost, JobFailed, KafkaUnavailable, StoreUnavailable, NotExported,
    PointerRefused, ModelUnavailable.
    """
    from training.job.run import JobHooks, run_job

    store = open_store(settings)
    with JobLock.from_settings(settings) as lock:
        if wanted.export:
            asyncio.run(export_samples(settings, wanted.options.samples))
            asyncio.run(export_products(settings, wanted.options.samples))
        current = _current(settings, store)

        def announce(release_id: str, instead_of: str) -> None:
            if wanted.trial_share:
                asyncio.run(try_candidate(settings, release_id, wanted.trial_share))
            else:
                asyncio.run(promote(settings, release_id, instead_of=instead_of))

        hooks = JobHooks(lock.check, announce)
        return run_job(wanted.options, store, current, wanted.parts, hooks)


@dataclass(frozen=True, slots=True)
class PartOptions:
    """What a person may choose of the parts' training."""

    time_limit_s: float = 1_800.0  # of the recommender
    alpha: float = 1.0
    trunk_samples: int = 20_000
    lora_rank: int = 0


def make_parts(
    names: Sequence[str], products: Path, options: PartOptions
) -> tuple[TrainablePart, ...]:
    """Return the parts of these names; `products` is the file that the export writes."""
    from training.parts.recommender_part import RecommenderPart
    from training.parts.sentiment_part import SentimentPart
    from training.parts.trunk_part import TrunkPart, TrunkTraining
    from training.recommender.train import RecommenderTraining

    sentiment = SentimentPart()
    recommender = RecommenderPart(products, RecommenderTraining(time_limit_s=options.time_limit_s))
    training = TrunkTraining(alpha=options.alpha, max_pairs=options.trunk_samples)
    if options.lora_rank:
        # adapters want about ten times the rate of a full training (Hu et al. 2021)
        rate = 10 * training.loop.learning_rate
        loop = replace(training.loop, lora_rank=options.lora_rank, learning_rate=rate)
        training = replace(training, loop=loop)
    parts: dict[str, TrainablePart] = {
        "sentiment": sentiment,
        "recommender": recommender,
        "trunk": TrunkPart(products, (sentiment, recommender), training),
    }
    return tuple(parts[name] for name in dict.fromkeys(names))


def give_way(nice: int, threads: int) -> None:
    """Leave the processor to live workers: a low priority, and few threads."""
    import torch

    os.nice(nice)
    torch.set_num_threads(threads)


def default_threads() -> int:
    """Return half the processors this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def _current(settings: Settings, store: ReleaseStore) -> str:
    """Return the current release; before the first, make one of the workers' own models."""
    pointer = asyncio.run(read_pointer(settings))
    if pointer is not None and pointer.url:
        return pointer.release
    if settings.model == "null":
        raise NoBase("the null model cannot be trained: set SHOPSTREAM_MODEL, or promote a release")
    heads: dict[str, Path] = {}
    if settings.sentiment_head is not None:
        heads[SENTIMENT] = settings.sentiment_head
    with tempfile.TemporaryDirectory(prefix="shopstream-") as room:
        base = publish_folder(store, settings.model, Path(room), heads=heads)
    asyncio.run(promote(settings, base))
    return base
