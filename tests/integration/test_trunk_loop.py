"""The loop with the trunk in it: samples of the topic, a job, and workers that take its release."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from models.metrics import reciprocal_rank
from models.release import open_trunk
from tests.support.flow_bench import OCCURRED_AT, search
from tests.support.names import Names
from tests.support.planted_trunk import PRODUCTS, asked, make_answers, make_searches
from tests.support.release_shop import ReleaseShop
from tests.support.review_samples import make_reviews
from tests.support.shop_topics import ShopTopics
from tests.support.tiny_release import write_tiny_head
from tests.support.tiny_trunk import write_tiny_trunk
from tests.support.worker_process import StartWorker, WorkerProcess
from training.gate import GateOptions
from training.job.options import JobOptions
from training.loop.options import LoopOptions
from training.parts.sentiment_part import SentimentPart
from training.parts.trunk_part import TrunkPart, TrunkTraining
from training.tasks.train_sentiment import SentimentTraining
from worker.commands.retraining import Retraining, retrain
from worker.events.event import EventKind, Product
from worker.pipeline.product_vectors import encode_product_vector
from worker.store.contract import Version
from worker.store.lookup import Lookup
from worker.topics.layout import create_topics
from worker.topics.product_export import FILE_NAME

pytest_plugins = ("tests.support.worker_fixtures",)
pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(600)]

MAX_TOKENS = 32
BROUGHT = "shopstream_product_vectors_brought_total"


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    """What the workers begin with: an untrained trunk with its head beside it."""
    folder = write_tiny_trunk(tmp_path / "tiny-shop")
    weights = open_trunk(folder).weights_checksum
    write_tiny_head(folder / "heads" / "sentiment", trunk_weights=weights)
    return folder


@pytest.fixture
def releases(
    tmp_path: Path, trunk: Path, kafka_bootstrap: str, redis_url: str, names: Names
) -> ReleaseShop:
    settings = names.settings(
        kafka_bootstrap,
        redis_url,
        kafka_group=names.group,
        kafka_partitions=2,
        model=str(trunk),
        max_text_tokens=MAX_TOKENS,
    )
    asyncio.run(create_topics(settings))
    return ReleaseShop(tmp_path, settings)


def start(start_worker: StartWorker, releases: ReleaseShop) -> WorkerProcess:
    chosen = releases.settings
    worker = start_worker(
        model=chosen.model,
        releases_url=chosen.releases_url,
        max_text_tokens=str(MAX_TOKENS),
        device="cpu",
    )
    worker.wait_ready(240)
    return worker


def fill(shop: ShopTopics) -> None:
    """Send the catalogue, and the samples of what shoppers did in it."""
    for product_id, title in PRODUCTS.items():
        event = {"event_id": product_id, "occurred_at": OCCURRED_AT}
        shop.send(EventKind.PRODUCT, event | {"product_id": product_id, "title": title})
    shop.wait_committed()
    for sample in (*make_searches(400), *make_answers(400), *make_reviews(400)):
        shop.send_to(shop.layout.samples, b"", sample.model_dump_json().encode())
    shop.flush()


def job(releases: ReleaseShop, samples: Path) -> str:
    """Run one job on the topics, the trunk in it; return the release it made."""
    sentiment = SentimentPart(SentimentTraining(epochs=20, learning_rate=8e-3))
    training = TrunkTraining(head_steps=20, loop=LoopOptions(learning_rate=3e-3, epochs=24))
    products = samples / FILE_NAME
    options = JobOptions(
        samples,
        samples / ".retrain",
        products,
        min_train=100,
        max_tokens=MAX_TOKENS,
        gate=GateOptions(min_cases=60, guard_limit=0.1),
        min_new=20,
    )
    part = TrunkPart(products, (sentiment,), training)
    report = retrain(releases.settings, Retraining(options, (part,)))
    (decision,) = report.decisions
    assert decision.passed, decision.reasons
    assert report.release_id is not None
    return report.release_id


def mean_reciprocal_rank(
    shop: ShopTopics, lookup: Lookup, release: str | None, first: int
) -> float:
    """Search once for every product; by luck alone 16 products give 0.21."""
    for number, title in enumerate(PRODUCTS.values(), first):
        shop.send(EventKind.SEARCH, search(number, f"u{number}", asked(title)))
    shop.wait_committed()
    total = 0.0
    for number, product_id in enumerate(PRODUCTS, first):
        result = lookup.search(f"s{number}")
        assert result is not None
        assert release in (None, result.release)
        total += reciprocal_rank([one.product_id for one in result.items], {product_id}, 16)
    return total / len(PRODUCTS)


def change(shop: ShopTopics, product_id: str, title: str) -> None:
    """Put a newer version of a product into the feed, as a worker of an old trunk would."""
    fields = {"event_id": "changed", "occurred_at": "2026-03-02T12:00:00Z"}
    product = Product.model_validate(fields | {"product_id": product_id, "title": title})
    vector = np.eye(32, dtype=np.float32)[0]
    version = Version(1_772_452_800_000, "changed")
    value = encode_product_vector(product, version, vector, "old@01234567")
    shop.send_to(shop.layout.product_vectors, product_id.encode(), value)
    shop.flush()


def brought(worker: WorkerProcess, releases: ReleaseShop, release: str) -> dict[str, float]:
    """Return source -> how many product vectors of a release's trunk the worker got from it."""
    trunk = open_trunk(Path(releases.settings.releases_url) / release).content_id
    figures = worker.metrics()
    return {
        source: figures[f'{BROUGHT}{{source="{source}",trunk="{trunk}"}}']
        for source in ("release", "encoded")
    }


def test_running_workers_swap_to_the_trunk_of_the_job_with_its_vectors(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    lookup: Lookup,
    tmp_path: Path,
) -> None:
    """Searches find what they mean right after the swap, and the worker encoded no product."""
    worker = start(start_worker, releases)
    fill(shop)
    before = mean_reciprocal_rank(shop, lookup, None, 0)
    release = job(releases, tmp_path / "samples")
    releases.wait_serving(release)
    after = mean_reciprocal_rank(shop, lookup, release, 1_000)
    assert after > 0.4 > before
    assert brought(worker, releases, release) == {"release": len(PRODUCTS), "encoded": 0}
    assert worker.terminate() == 0


def test_a_worker_that_starts_on_a_new_trunk_takes_the_vectors_of_its_release(
    start_worker: StartWorker,
    shop: ShopTopics,
    releases: ReleaseShop,
    lookup: Lookup,
    tmp_path: Path,
) -> None:
    """Where no worker ran meanwhile nobody published vectors: the release's serve, but one text's.

    A product that changed after the job is encoded by the worker.
    """
    first = start(start_worker, releases)
    fill(shop)
    release = job(releases, tmp_path / "samples")
    assert first.terminate() == 0
    change(shop, next(iter(PRODUCTS)), "good day")
    worker = start(start_worker, releases)
    releases.wait_serving(release)
    assert brought(worker, releases, release) == {"release": len(PRODUCTS) - 1, "encoded": 1}
    assert mean_reciprocal_rank(shop, lookup, release, 0) > 0.4
    assert "lack a vector of" in worker.log_text()
    assert worker.terminate() == 0
