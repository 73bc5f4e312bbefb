"""Swaps in the running flow: vectors before the switch, no event lost, mixed or held back."""

from __future__ import annotations

import asyncio

import orjson

from models.learnt.learnt_recommender import LearntRecommender
from models.product_index import IndexedProduct, ProductIndex
from models.recommendation.shopper import Demand, Shopper, ShopperEvent
from tests.support.flow_bench import LAYOUT, FlowBench, product, search
from tests.support.planted_recommender import (
    TEXT_WIDTH,
    item_ids,
    planted_recommender,
    text_vector,
)
from tests.support.swap_bench import SwapBench, models
from worker.events.event import EventKind
from worker.pipeline.batch import OutTopic
from worker.pipeline.pipeline import Pipeline
from worker.stream.chunk import TopicPartition


async def test_swaps_in_mid_stream_lose_and_mix_nothing() -> None:
    """Fifty swaps between trunks of two widths under load: all events end, each batch on one."""
    async with SwapBench(max_events=5).fed() as bench:
        await bench.send_products(30)
        both = [models("wide", 48), models("narrow", 32)]
        for number in range(50):
            start = number * 20
            bench.send(
                EventKind.SEARCH, *(search(n, f"u{n % 7}") for n in range(start, start + 20))
            )
            bench.send(EventKind.PRODUCT, product(number % 30, f"green tea, version {number}"))
            one = both[number % 2]
            await bench.switch.bring_vectors(one)
            await bench.switch.swap(one)
        await bench.until(bench.books.all_finished)
        assert bench.failures == []
        assert bench.check_no_result_is_mixed() >= {"wide", "narrow"}
        lists = [
            orjson.loads(value)["items"]
            for key, value in bench.store.results().items() if key.startswith("search:")
        ]  # fmt: skip
        assert len(lists) == 1000
        assert min(len(items) for items in lists) == 20


async def test_a_batch_on_the_device_ends_on_its_release_while_the_next_meets_the_new_one() -> None:
    """The switch waits for nothing: a held batch keeps its models, what is taken later does not."""
    async with SwapBench().fed() as bench:
        first = bench.pipeline.serving.models.release
        bench.pipeline.device_free.clear()
        bench.send(EventKind.SEARCH, search(1))
        await bench.until(lambda: bench.pipeline.encoding == 1)
        swapping = asyncio.create_task(bench.switch.swap(models("second", 32)))
        await bench.until(lambda: bench.pipeline.serving.models.release == "second")
        assert not swapping.done()  # what it drops, it drops when the held batch has ended
        bench.send(EventKind.SEARCH, search(2))
        bench.pipeline.device_free.set()
        await bench.until(bench.books.all_finished)
        await swapping
        releases = {
            key: orjson.loads(value)["release"] for key, value in bench.store.results().items()
        }
        assert (releases["search:s1"], releases["search:s2"]) == (first, "second")


async def test_the_previous_trunk_is_kept_up_to_date_for_a_rollback() -> None:
    """Products that came after a swap have vectors of the trunk before it, so it may come back."""
    async with SwapBench().fed() as bench:
        await bench.send_products(3)
        first = bench.pipeline.serving.models
        second = models("second", 48)
        await bench.switch.bring_vectors(second)
        await bench.switch.swap(second)
        await bench.send_products(6)
        assert bench.switch.warm(first.release) is first
        assert bench.catalogue.missing(first.trunk.release) == []
        await bench.switch.swap(first)
        assert bench.switch.warm("second") is second
        assert set(bench.catalogue.trunks) == {"null-32", "null-48"}


async def test_what_is_not_kept_is_let_go_when_its_batches_have_ended() -> None:
    """Without a release kept for a rollback, the old trunk's index goes after the switch."""
    async with SwapBench(keep_previous=False).fed() as bench:
        await bench.send_products(3)
        first = bench.pipeline.serving.models
        second = models("second", 48)
        await bench.switch.bring_vectors(second)
        await bench.switch.swap(second)
        assert bench.catalogue.trunks == ("null-48",)
        assert bench.switch.warm(first.release) is None


async def test_the_owner_sends_its_products_again_after_a_swap() -> None:
    """After the switch the topic's last record of each product is the new trunk's, and newest."""
    async with SwapBench().fed() as bench:
        await bench.send_products(30)
        second = models("second", 48)
        await bench.switch.bring_vectors(second)
        await bench.switch.swap(second)
        publishing = asyncio.create_task(bench.publisher.publish())
        bench.send(EventKind.PRODUCT, product(7, "newer tea") | {"event_id": "p7b"})
        await publishing
        await bench.until(bench.books.all_finished)
        last = {
            one["product"]["product_id"]: (one["release"], one["product"]["title"])
            for one in bench.outbox.of(OutTopic.PRODUCT_VECTORS)
        }
        assert {release for release, _ in last.values()} == {"null-48"}
        assert last["product-7"][1] == "newer tea"
        assert await bench.publisher.publish() == 0


async def test_nothing_is_published_while_partitions_are_taken_away() -> None:
    """Between a revocation and the next assignment this worker sends no product again."""
    async with SwapBench().fed() as bench:
        await bench.send_products(5)
        second = models("second", 48)
        await bench.switch.bring_vectors(second)
        await bench.switch.swap(second)
        bench.flow.drop_unstarted()
        assert await bench.publisher.publish() == 0
        bench.flow.on_assigned(frozenset({TopicPartition(LAYOUT.of(EventKind.PRODUCT), 0)}))
        assert await bench.publisher.publish() == 5


async def test_background_vectors_equal_those_of_a_batch() -> None:
    """A product encoded for a swap and one that a batch encoded have the same bits."""
    async with SwapBench().fed() as bench:
        await bench.send_products(10)
        again = models("again", 32)
        again.trunk.release = "null-32-again"
        await bench.switch.bring_vectors(again)
        ids = [f"product-{number}" for number in range(10)]
        ours, _ = bench.catalogue.index_of("null-32").vectors_of(ids)
        theirs, found = bench.catalogue.index_of("null-32-again").vectors_of(ids)
        assert found.all()
        assert (ours == theirs).all()


def test_a_recommender_catches_up_in_pieces() -> None:
    """Taken in a few at a time between batches, the products give the lists they give at once."""
    index = ProductIndex(TEXT_WIDTH)
    index.apply(
        [
            IndexedProduct(one, one, vector=text_vector(one.split("-")[0], seed))
            for seed, one in enumerate(item_ids())
        ]
    )
    at_once, in_pieces = (LearntRecommender(planted_recommender()) for _ in range(2))
    left = [in_pieces.catch_up(index, 5) for _ in range(4)]
    assert left == [11, 6, 1, 0]
    bought = ShopperEvent(1, "b", "purchase", product_ids=("tea-2",))
    shopper = Shopper("u", 60_000, (bought,), {}, None)
    lists = [one.recommend([shopper], Demand(), index, 5) for one in (at_once, in_pieces)]
    assert lists[0] == lists[1] != [[]]


def test_a_pipeline_can_be_swapped_without_a_flow() -> None:
    """`Pipeline.swap` alone is enough for a replay."""
    bench = FlowBench()
    assert isinstance(bench.pipeline, Pipeline)
    before = bench.pipeline.swap(models("second", 32))
    assert before.models.release == "null-32"
    assert bench.pipeline.serving.models.release == "second"
    assert isinstance(bench.catalogue.index, ProductIndex)
