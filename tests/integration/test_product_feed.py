"""The product feed on a real broker: the whole topic at start, then whatever follows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from confluent_kafka import Producer

from models.product_index import IndexedProduct, ProductIndex, Vector
from tests.support.flow_bench import product
from tests.support.names import Names
from worker.events.event import Product
from worker.flow.product_feed import ProductFeed
from worker.page.metrics import WorkerMetrics
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.product_vectors import encode_product_vector
from worker.settings import Settings
from worker.store.contract import Version
from worker.topics.client import KafkaUnavailable
from worker.topics.layout import TopicLayout, create_topics

pytestmark = pytest.mark.kafka

WIDTH = 8
RELEASE = "trunk@1"


class Bench:
    """A feed, the catalogue it fills, and a producer to its topic."""

    def __init__(self, bootstrap: str, names: Names) -> None:
        self.settings = Settings(
            kafka_bootstrap_servers=bootstrap,
            topic_prefix=names.event_prefix,
            internal_topic_prefix=names.internal_prefix,
        )
        self.topic = TopicLayout.from_settings(self.settings).product_vectors
        self.catalogue = Catalogue(ProductIndex(WIDTH), RELEASE)
        self.encoded: list[str] = []
        self.metrics = WorkerMetrics()
        self.producer = Producer({"bootstrap.servers": bootstrap})
        self.feed = self.new_feed(self.catalogue)

    def new_feed(self, catalogue: Catalogue) -> ProductFeed:
        async def encode(trunk: str, products: Sequence[IndexedProduct]) -> list[Vector]:
            self.encoded += [one.product_id for one in products]
            return [np.eye(WIDTH, dtype=np.float32)[0] for _ in products]

        return ProductFeed(
            self.settings,
            topic=self.topic,
            catalogue=catalogue,
            encode=encode,
            on_ranking_thread=asyncio.to_thread,
            metrics=self.metrics,
        )

    def put(
        self, number: int, *, version: int = 1, release: str = RELEASE, width: int = WIDTH
    ) -> None:
        """Produce a product's vector."""
        one = Product.model_validate(product(number))
        vector = np.eye(width, dtype=np.float32)[number % width]
        value = encode_product_vector(one, Version(version, "e"), vector, release)
        self.produce(one.product_id, value)

    def produce(self, key: str, value: bytes | None) -> None:
        """Produce one record as it is."""
        self.producer.produce(self.topic, key=key, value=value)
        self.producer.poll(0)

    def outcome(self, name: str) -> float:
        """Return how many records ended this way."""
        labels = {"outcome": name}
        found = self.metrics.registry.get_sample_value("shopstream_product_records_total", labels)
        return found or 0.0


@pytest.fixture
async def bench(kafka_bootstrap: str, names: Names) -> Bench:
    one = Bench(kafka_bootstrap, names)
    await create_topics(one.settings)
    return one


async def test_loading_ends_at_the_end_and_following_goes_on(bench: Bench) -> None:
    """All products and removals of the topic are applied before `load` returns; later ones too."""
    for number in range(2_000):
        bench.put(number)
    for number in range(5):
        bench.produce(f"product-{number}", None)
    bench.producer.flush()
    assert not bench.feed.ready
    await bench.feed.load()
    assert bench.feed.ready
    assert len(bench.catalogue.index) == 1_995
    assert bench.catalogue.apply_pending() == (2_005,)
    following = asyncio.create_task(bench.feed.follow())
    bench.put(0, version=2)
    bench.producer.flush()
    async with asyncio.timeout(20):
        while bench.catalogue.apply_pending() != (2_006,):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert bench.catalogue.index.get("product-0") is not None
    following.cancel()
    await bench.feed.stop()


async def test_an_empty_topic_is_ready_at_once(bench: Bench) -> None:
    """A new shop has no products: the position still names the partition."""
    await bench.feed.load()
    assert bench.feed.ready
    assert bench.catalogue.apply_pending() == (0,)
    await bench.feed.stop()


async def test_two_readers_end_with_the_same_catalogue(bench: Bench) -> None:
    """However the records were cut into steps, the index holds the same products."""
    for number in range(700):
        bench.put(number % 300, version=number)
    bench.producer.flush()
    catalogues = [Catalogue(ProductIndex(WIDTH), RELEASE) for _ in range(2)]
    for catalogue in catalogues:
        feed = bench.new_feed(catalogue)
        await feed.load()
        await feed.stop()
    first, second = (catalogue.index for catalogue in catalogues)
    assert len(first) == len(second) == 300
    query = np.eye(WIDTH, dtype=np.float32)[:1]
    assert first.nearest(query, 50) == second.nearest(query, 50)


async def test_records_that_cannot_be_used_do_not_stop_the_feed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Rubbish and vectors of another width are counted and left out, with one warning."""
    bench.put(1)
    bench.produce("rubbish", b"{")
    bench.put(2, width=4)
    bench.put(3)
    bench.producer.flush()
    await bench.feed.load()
    assert len(bench.catalogue.index) == 2
    assert bench.outcome("taken") == 2
    assert bench.outcome("unreadable") == 2
    assert "unreadable" in caplog.text
    await bench.feed.stop()


async def test_a_product_of_another_trunk_is_encoded_again(bench: Bench) -> None:
    """Vectors of two trunks never meet: the foreign one, of whatever width, is made anew."""
    bench.put(1, release="another@2")
    bench.put(2, release="wider@3", width=2 * WIDTH)
    bench.put(3)
    bench.producer.flush()
    await bench.feed.load()
    index = bench.catalogue.index_of(RELEASE)
    query = np.eye(WIDTH, dtype=np.float32)[0:1]
    nearest = index.nearest(query, 5)[0]
    assert nearest == [("product-1", 1.0), ("product-2", 1.0), ("product-3", 0.0)]
    assert bench.encoded == ["product-1", "product-2"]
    assert bench.outcome("encoded_again") == 2
    await bench.feed.stop()


async def test_the_loading_says_how_far_it_is(bench: Bench) -> None:
    """Whoever asks while a catalogue is read and encoded hears how much of it is done."""
    heard: list[str] = []
    encode = bench.feed._encode

    async def telling(trunk: str, products: Sequence[IndexedProduct]) -> list[Vector]:
        heard.append(bench.feed.progress)
        return await encode(trunk, products)

    bench.feed._encode = telling
    for number in range(600):
        bench.put(number, release="another@2")
    bench.producer.flush()
    await bench.feed.load()
    done = "of 600 products have vectors of this worker's trunk"
    assert heard == [f"{count} {done}" for count in (0, 256, 512)]
    assert bench.feed.progress == f"600 {done}"
    await bench.feed.stop()


async def test_every_trunk_with_an_index_gets_its_vectors(bench: Bench) -> None:
    """While a second trunk is made ready, the feed brings each product in both trunks' vectors."""
    bench.put(1)
    bench.producer.flush()
    await bench.feed.load()
    async with bench.feed.paused():
        bench.catalogue.open_index("second@2", WIDTH)
    following = asyncio.create_task(bench.feed.follow())
    bench.put(2)
    bench.producer.flush()
    async with asyncio.timeout(20):
        while len(bench.catalogue.index) < 2 or bench.outcome("encoded_again") < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert bench.catalogue.missing("second@2") == ["product-1"]
    query = np.eye(WIDTH, dtype=np.float32)[0:1]
    assert bench.catalogue.index_of("second@2").nearest(query, 5)[0] == [("product-2", 1.0)]
    assert bench.catalogue.index_of(RELEASE).nearest(query, 5)[0][-1][0] == "product-2"
    following.cancel()
    await bench.feed.stop()


async def test_a_missing_topic_is_one_clear_sentence(kafka_bootstrap: str, names: Names) -> None:
    """A feed whose topic was never created says which command creates it."""
    feed = Bench(kafka_bootstrap, names).feed
    with pytest.raises(KafkaUnavailable, match="topics create"):
        await feed.load()
    await feed.stop()
