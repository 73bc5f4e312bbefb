"""One batch through the pipeline, on the in-memory store and a trunk without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from models.answerer import Answerer
from models.faq import FaqEntry
from models.product_index import ProductIndex
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.null_encoder import NullEncoder
from models.text_encoder import Encodings, Tokens
from worker.events.decode import InvalidEvent, RawRecord
from worker.events.event import (
    Event,
    EventKind,
    Forget,
    Item,
    Product,
    ProductRemoved,
    Purchase,
    Question,
    Review,
    Search,
)
from worker.pipeline.batch import Batch, Outcome, OutTopic, Position
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.options import PipelineOptions
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.product_vectors import decode_product_vector
from worker.pipeline.records import BatchRecord
from worker.pipeline.stages import PipelineModels
from worker.store.contract import ResultKind
from worker.store.memory_store import MemoryStore

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class CountingEncoder(NullEncoder):
    """A null trunk that notes what every pass encoded."""

    def __init__(self) -> None:
        super().__init__(32)
        self.passes: list[int] = []

    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] | None = None
    ) -> Encodings:
        self.passes.append(len(tokens))
        return super().encode(tokens, head_rows or {})


class Bench:
    """A pipeline with its catalogue; feeds the vectors it makes back, as the product feed does."""

    def __init__(self, faq: Sequence[FaqEntry] = ()) -> None:
        self.trunk = CountingEncoder()
        self.store = MemoryStore()
        self.catalogue = Catalogue(ProductIndex(32))
        self.pipeline = Pipeline(
            models=PipelineModels(self.trunk, SimilarityRecommender(), Answerer(0.0), faq),
            store=self.store,
            clock=lambda: START,
            options=PipelineOptions(process_id="p", privacy_key=b"k"),
        )
        self.offset = 0
        self.fed = 0

    def run(self, *events: Event | InvalidEvent) -> Outcome:
        """Run one batch and write its results."""
        placed = []
        for event in events:
            placed.append((Position("topic", 0, self.offset), event))
            self.offset += 1
        batch = Batch(f"p-{self.offset}", self.pipeline.prepare(placed))
        outcome = asyncio.run(self._through(batch))
        updates = [
            decode_product_vector(message.key, message.value, 32)
            for message in outcome.messages
            if message.topic is OutTopic.PRODUCT_VECTORS
        ]
        self.fed += len(updates)
        self.catalogue.offer(updates, (self.fed,))
        return outcome

    async def _through(self, batch: Batch) -> Outcome:
        gathered = await self.pipeline.gather(batch)
        outcome = self.pipeline.conclude(self.pipeline.encode(gathered), self.catalogue)
        await self.store.write(
            outcome.results, batch_id=outcome.batch_id, sequence=outcome.sequence
        )
        return outcome


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def product(product_id: str, title: str, minute: float = 0, **fields: object) -> Product:
    return Product.model_validate(
        {
            "event_id": f"{product_id}-{minute}",
            "occurred_at": at(minute),
            "product_id": product_id,
            "title": title,
            **fields,
        }
    )


def search(event_id: str, user: str, query: str, minute: float = 1) -> Search:
    return Search(event_id=event_id, occurred_at=at(minute), user_id=user, query=query)


def purchase(event_id: str, user: str, *products: str, minute: float = 2) -> Purchase:
    return Purchase(
        event_id=event_id,
        occurred_at=at(minute),
        user_id=user,
        order_id=event_id,
        items=[Item(product_id=one) for one in products],
    )


def results(outcome: Outcome, kind: ResultKind) -> dict[str, dict[str, object]]:
    return {write.id: orjson.loads(write.value) for write in outcome.results if write.kind == kind}


def messages(outcome: Outcome, topic: OutTopic) -> list[bytes | None]:
    return [message.value for message in outcome.messages if message.topic is topic]


SHOP = (
    product("tea", "green tea leaves", description="Picked by hand. Contains caffeine."),
    product("pot", "cast iron tea pot"),
    product("bike", "red mountain bike"),
    product("lamp", "desk lamp"),
)


def test_search_results_stand_under_event_and_query() -> None:
    """A search's results stand under its event id and its normalised query, with their reasons."""
    bench = Bench()
    bench.run(*SHOP)
    outcome = bench.run(search("s1", "ann", "  Green TEA "))
    found = results(outcome, ResultKind.SEARCH)["s1"]
    assert found["items"][0]["product_id"] == "tea"
    assert "green" in found["items"][0]["reason"]["text"]
    assert results(outcome, ResultKind.QUERY)["green tea"] == found


def test_one_trunk_pass_a_batch_and_no_text_twice() -> None:
    """A batch of all kinds takes one trunk pass, each text in it once, and known texts none."""
    bench = Bench()
    bench.run(*SHOP)
    review = Review(
        event_id="r", occurred_at=at(1), user_id="bo", review_id="r", product_id="tea", text="good"
    )
    bench.run(search("s1", "ann", "tea"), search("s2", "bo", "tea"), review)
    assert bench.trunk.passes == [4, 2]
    bench.run(search("s3", "cy", "tea"))
    assert bench.trunk.passes == [4, 2]


def test_one_list_for_a_shopper_with_many_events() -> None:
    """A shopper with many events in a batch gets one list, caused by the newest of them."""
    bench = Bench()
    bench.run(*SHOP)
    outcome = bench.run(
        purchase("p1", "ann", "tea", minute=5),
        search("s1", "ann", "tea pot", minute=9),
        search("s0", "ann", "bike", minute=1),
    )
    writes = [w for w in outcome.results if w.kind is ResultKind.RECOMMENDATIONS]
    assert [(w.id, w.version.event_id) for w in writes] == [("ann", "s1")]
    items = results(outcome, ResultKind.RECOMMENDATIONS)["ann"]["items"]
    assert items[0]["product_id"] == "pot"
    assert "tea" not in {item["product_id"] for item in items}


def test_an_event_that_comes_late_improves_the_list() -> None:
    """Topics run beside each other: a list that knows a late event stands above the one before."""
    bench = Bench()
    bench.run(*SHOP)
    review = Review(
        event_id="v1", occurred_at=at(9), user_id="ann", review_id="v1", product_id="tea", text="Ok"
    )
    assert results(bench.run(review), ResultKind.RECOMMENDATIONS)["ann"]["items"] == []
    outcome = bench.run(search("s1", "ann", "tea pot", minute=5))
    written = results(outcome, ResultKind.RECOMMENDATIONS)["ann"]
    assert (written["event_id"], written["occurred_at"]) == ("v1", "2026-03-01T12:09:00.000Z")
    standing = asyncio.run(bench.store.result(ResultKind.RECOMMENDATIONS, "ann"))
    assert standing is not None
    assert orjson.loads(standing)["items"][0]["product_id"] == "pot"


def test_unavailable_and_removed_products_never_appear() -> None:
    """A product that is sold out or removed stands in no list of a later batch."""
    bench = Bench()
    bench.run(*SHOP)
    gone = ProductRemoved(event_id="t1", occurred_at=at(3), product_id="pot")
    bench.run(product("tea", "green tea leaves", minute=3, available=False), gone)
    outcome = bench.run(search("s1", "ann", "tea pot", 4), purchase("p1", "bo", "tea", minute=4))
    listed = {
        item["product_id"]
        for write in outcome.results
        for item in orjson.loads(write.value)["items"]
    }
    assert listed == {"bike", "lamp"}


def test_older_product_is_not_sent_again() -> None:
    """A product event older than what the index holds sends no vector and changes nothing."""
    bench = Bench()
    bench.run(product("tea", "new title", minute=5))
    bench.run(search("s1", "ann", "x"))
    outcome = bench.run(product("tea", "old title", minute=1))
    assert messages(outcome, OutTopic.PRODUCT_VECTORS) == []
    assert bench.catalogue.index.get("tea").title == "new title"


def test_question_is_answered_from_the_product_text() -> None:
    """A question on a product page is answered by the product's own sentence, with its source."""
    bench = Bench(faq=[FaqEntry("f1", "How long does shipping take?", "Three days.")])
    bench.run(*SHOP)
    question = Question(
        event_id="q1",
        occurred_at=at(1),
        user_id="ann",
        question_id="q1",
        text="does it contain caffeine",
        product_id="tea",
    )
    answer = results(bench.run(question), ResultKind.ANSWER)["q1"]
    assert answer["text"] == "Contains caffeine."
    assert answer["source"] == {"kind": "product", "id": "tea"}
    asked = question.model_copy(
        update={"event_id": "q2", "question_id": "q2", "text": "how long does shipping take"}
    )
    answer = results(bench.run(asked), ResultKind.ANSWER)["q2"]
    assert (answer["text"], answer["source"]["kind"]) == ("Three days.", "faq")


def test_forgotten_shopper_gets_nothing() -> None:
    """Events of a shopper from before the forget request leave no result and no sample."""
    bench = Bench()
    bench.run(*SHOP)
    bench.run(Forget(event_id="f1", occurred_at=at(10), user_id="ann"))
    outcome = bench.run(search("s1", "ann", "tea", 5), purchase("p1", "ann", "tea", minute=6))
    assert [write for write in outcome.results if write.user_id == "ann"] == []
    assert messages(outcome, OutTopic.SAMPLES) == []
    outcome = bench.run(search("s2", "ann", "tea", 11))
    assert "s2" in results(outcome, ResultKind.SEARCH)


def test_invalid_events_become_dead_letters() -> None:
    """What could not be decoded leaves a dead letter, and the events beside it their results."""
    bench = Bench()
    bench.run(*SHOP)
    raw = RawRecord("shop.searches", 1, 7, b"ann", b"{", 0)
    bad = InvalidEvent(raw, EventKind.SEARCH, "invalid_json", "not JSON")
    outcome = bench.run(bad, search("s1", "ann", "tea"))
    letters = messages(outcome, OutTopic.DEAD_LETTERS)
    assert len(letters) == 1
    assert b"shop.searches" in letters[0]
    assert "s1" in results(outcome, ResultKind.SEARCH)


def test_batch_record_names_events_in_order() -> None:
    """A batch's record names its events in order, its step and its index."""
    bench = Bench()
    bench.run(*SHOP)
    outcome = bench.run(search("s1", "ann", "tea"), search("s2", "bo", "pot"))
    (value,) = messages(outcome, OutTopic.BATCHES)
    record = BatchRecord.model_validate_json(value)
    assert [(run.first, run.last, run.count) for run in record.runs] == [(4, 5, 2)]
    assert (record.sequence, record.index_position) == (2, [4])
    assert asyncio.run(bench.store.pending_intents()) == {}


def test_same_batches_give_the_same_bytes() -> None:
    """The same batches through a fresh pipeline and store give the same results and messages."""

    def run() -> list[Outcome]:
        bench = Bench()
        outcomes = [bench.run(*SHOP)]
        for number in range(6):
            user = f"user-{number % 2}"
            minute = 10.0 + number
            outcomes.append(
                bench.run(
                    search(f"s{number}", user, "tea pot" if number % 3 else "bike", minute),
                    purchase(f"p{number}", user, SHOP[number % 4].product_id, minute=minute + 0.5),
                )
            )
        return outcomes

    assert run() == run()
