"""A trained recommender, loaded from its folder, through the whole pipeline."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.learnt.files import save_recommender
from models.product_index import ProductIndex
from models.recommendation.rules import RecommendationRules
from models.search.product_text import product_text
from models.text.null_encoder import NullEncoder
from tests.support.planted_recommender import ITEMS_PER_SHELF, SHELVES, item_ids, trained_on
from worker.events.event import Event, Item, Product, ProductRemoved, Purchase, Search
from worker.flow.loading import ModelsUnavailable, load_models
from worker.pipeline.batch import Batch, OutTopic, Position
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.options import PipelineOptions
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.product_vectors import decode_product_vector
from worker.settings import Settings
from worker.store.contract import ResultKind
from worker.store.memory_store import MemoryStore

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WIDTH = 384


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recommender trained with the null trunk's vectors, on disk."""
    trunk = NullEncoder(WIDTH)
    titles = [product_text(f"{shelf} {n}") for shelf in SHELVES for n in range(ITEMS_PER_SHELF)]
    texts = trunk.encode(trunk.tokenize(titles, "passage")).vectors
    queries = trunk.encode(trunk.tokenize(list(SHELVES), "query")).vectors
    loaded = trained_on(texts, queries)
    path = tmp_path_factory.mktemp("release") / "recommender"
    save_recommender(path, loaded.network, item_ids(), {"trunk": trunk.release})
    return path


class Shop:
    """A pipeline with the loaded models; the vectors it makes come back as by the product feed."""

    def __init__(self, folder: Path, rules: RecommendationRules | None = None) -> None:
        settings = Settings(model="null", recommender=folder)
        self.store = MemoryStore()
        self.catalogue = Catalogue(ProductIndex(WIDTH))
        self.pipeline = Pipeline(
            models=load_models(settings).models,
            store=self.store,
            clock=lambda: START,
            options=PipelineOptions(
                process_id="p", privacy_key=b"k", rules=rules or RecommendationRules()
            ),
        )
        self.offset = 0
        self.run(*(product(i) for i in item_ids()))

    def run(self, *events: Event) -> dict[str, list[dict[str, Any]]]:
        """Run one batch; return the items of each shopper's recommendations."""
        first, self.offset = self.offset, self.offset + len(events)
        placed = [(Position("t", 0, first + row), event) for row, event in enumerate(events)]
        batch = Batch(f"p-{first}", self.pipeline.prepare(placed))
        gathered = asyncio.run(self.pipeline.gather(batch))
        outcome = self.pipeline.conclude(self.pipeline.encode(gathered), self.catalogue)
        updates = [
            decode_product_vector(message.key, message.value, WIDTH)
            for message in outcome.messages
            if message.topic is OutTopic.PRODUCT_VECTORS
        ]
        self.catalogue.offer(updates, (self.offset,))
        return {
            write.id: orjson.loads(write.value)["items"]
            for write in outcome.results
            if write.kind is ResultKind.RECOMMENDATIONS
        }


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def product(product_id: str, minute: float = 0, **fields: object) -> Product:
    known = {"title": product_id.replace("-", " "), **fields}
    names = {"event_id": f"{product_id}-{minute}", "product_id": product_id}
    return Product.model_validate({"occurred_at": at(minute), **names, **known})


def search(user: str, query: str, minute: float) -> Search:
    name = f"s-{user}-{minute}"
    return Search(event_id=name, occurred_at=at(minute), user_id=user, query=query)


def purchase(user: str, *products: str, minute: float) -> Purchase:
    name = f"p-{user}-{minute}"
    items = [Item(product_id=one, quantity=1) for one in products]
    return Purchase(event_id=name, occurred_at=at(minute), user_id=user, order_id=name, items=items)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["product_id"] for item in items]


def test_lists_with_reasons_come_out_of_the_pipeline(folder: Path) -> None:
    """Purchases get what follows them, a search its shelf; every item says why."""
    lists = Shop(folder).run(
        purchase("ann", "tea-1", minute=1),
        purchase("ann", "tea-2", minute=2),
        search("bo", "tool", 3),
    )
    assert lists["ann"][0]["product_id"] == "tea-3"
    assert lists["ann"][0]["title"] == "tea 3"
    assert lists["ann"][0]["reason"]["because"][0] in {"tea-1", "tea-2"}
    assert not {"tea-1", "tea-2"} & {*ids(lists["ann"])}
    assert len(lists["ann"]) == 10
    assert all(i.startswith("tool-") for i in ids(lists["bo"])[:3])
    assert lists["bo"][0]["reason"]["text"] == "matches your search 'tool'"


def test_sold_out_never_new_at_once(folder: Path) -> None:
    """Sold out and removed products never appear; a new one appears in the next batch's list."""
    shop = Shop(folder)
    gone = ProductRemoved(event_id="gone", occurred_at=at(1), product_id="tea-4")
    shop.run(product("tea-3", 1, available=False), gone, product("tea-green", 1))
    listed = shop.run(purchase("ann", "tea-2", minute=2), search("bo", "tea", 2))
    assert not {"tea-3", "tea-4"} & {*ids(listed["ann"]), *ids(listed["bo"])}
    assert "tea-green" in ids(listed["bo"])
    shop.run(product("tea-3", 3))
    assert ids(shop.run(purchase("cy", "tea-2", minute=4))["cy"])[0] == "tea-3"


def test_rules_hold_for_the_learnt_recommender(folder: Path) -> None:
    """A category cap and a highest price hold, and the lists stay full."""
    rules = RecommendationRules(category_max_items=2, price_max=5.0)
    shop = Shop(folder, rules)
    shop.run(*(product(f"tea-{n}", 1, category="tea", price=1.0) for n in range(8)))
    shop.run(*(product(f"tool-{n}", 1, price=9.0 if n < 4 else 1.0) for n in range(8)))
    items = ids(shop.run(purchase("ann", "tea-1", minute=2))["ann"])
    assert sum(i.startswith("tea-") for i in items) == 2
    assert {i for i in items if i.startswith("tool-")} == {f"tool-{n}" for n in range(4, 8)}


def test_the_same_batches_give_the_same_lists(folder: Path) -> None:
    """Two pipelines that see the same events give the same lists, however they are cut."""
    events = [
        event
        for minute in range(1, 9)
        for event in (
            purchase("ann", f"tea-{minute % 8}", minute=minute),
            search("bo", "tool" if minute % 2 else "tea", minute),
        )
    ]
    whole, cut = Shop(folder), Shop(folder)
    last: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        last |= cut.run(event)
    together = whole.run(*events)
    assert together["ann"] == last["ann"]
    assert ids(together["bo"]) == ids(last["bo"])


def test_a_folder_that_cannot_serve_is_refused(folder: Path, tmp_path: Path) -> None:
    """No recommender in the folder, or one of another trunk: a sentence that says what to do."""
    with pytest.raises(ModelsUnavailable, match="is no recommender"):
        load_models(Settings(model="null", recommender=tmp_path))
    other = shutil.copytree(folder, tmp_path / "other")
    config = (other / "config.json").read_text().replace("null-384", "minilm")
    (other / "config.json").write_text(config)
    with pytest.raises(ModelsUnavailable, match="trained with the trunk minilm, this worker runs"):
        load_models(Settings(model="null", recommender=other))
