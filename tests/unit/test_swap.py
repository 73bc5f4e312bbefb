"""A swap between two batches: every batch ends on the models it began with, and says which."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import orjson

from models.answerer import Answerer
from models.product_index import ProductIndex
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.null_encoder import NullEncoder
from models.text_encoder import BUCKET_TOKENS
from worker.events.event import Event, Item, Purchase, Question, Review, Search
from worker.pipeline.batch import Batch, Outcome, OutTopic, Position
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.options import PipelineOptions
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.records import BatchRecord
from worker.pipeline.serving import Trial, arm_of
from worker.pipeline.stages import PipelineModels
from worker.store.memory_store import MemoryStore

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def models(width: int = 32, release: str = "") -> PipelineModels:
    trunk = NullEncoder(width)
    return PipelineModels(trunk, SimilarityRecommender(), Answerer(0.0), release=release)


def new_pipeline(first: PipelineModels) -> Pipeline:
    options = PipelineOptions(process_id="p", privacy_key=b"k")
    return Pipeline(models=first, store=MemoryStore(), clock=lambda: AT, options=options)


def search(number: int, user: str = "u") -> Search:
    return Search(event_id=f"s{number}", occurred_at=AT, user_id=user, query=f"green tea {number}")


def prepared(pipeline: Pipeline, number: int, *events: Event) -> Batch:
    placed = [(Position("t", 0, row), event) for row, event in enumerate(events)]
    return Batch(f"p-{number}", pipeline.prepare(placed))


def releases_of(outcome: Outcome) -> set[str]:
    return {orjson.loads(write.value)["release"] for write in outcome.results}


def record_of(outcome: Outcome) -> BatchRecord:
    (message,) = (m for m in outcome.messages if m.topic is OutTopic.BATCHES)
    assert message.value is not None
    return BatchRecord.model_validate_json(message.value)


def test_a_batch_in_flight_ends_on_the_release_it_began_with() -> None:
    """Whatever step a swap falls on, a batch's results and its record name one release."""
    first, second = models(release="one"), models(release="two")
    catalogue = Catalogue(ProductIndex(32))
    for step in range(4):
        pipeline = new_pipeline(first)

        async def run(swap_at: int, pipeline: Pipeline = pipeline) -> Outcome:
            batch = prepared(pipeline, 1, search(1))
            if swap_at == 0:
                pipeline.swap(second)
            gathered = await pipeline.gather(batch)
            if swap_at == 1:
                pipeline.swap(second)
            encoded = pipeline.encode(gathered)
            if swap_at == 2:
                pipeline.swap(second)
            return pipeline.conclude(encoded, catalogue)

        outcome = asyncio.run(run(step))
        expected = "two" if step == 0 else "one"
        assert releases_of(outcome) == {expected}
        assert record_of(outcome).release == expected
        assert record_of(outcome).trunk == "null-32"


def test_texts_of_another_tokenizer_are_tokenized_again() -> None:
    """Events prepared before a swap to another trunk give the bits of events prepared after it."""
    outcomes: list[Outcome] = []
    for early in (True, False):
        pipeline = new_pipeline(models(32))
        batch = prepared(pipeline, 1, search(1))
        pipeline.swap(models(48))
        if not early:
            batch = prepared(pipeline, 1, search(1))
        gathered = asyncio.run(pipeline.gather(batch))
        outcomes.append(pipeline.conclude(pipeline.encode(gathered), Catalogue(ProductIndex(48))))
        buckets = {tokens.bucket for arm in gathered.arms for tokens in arm.to_encode.values()}
        assert buckets == {BUCKET_TOKENS}
    assert [write.value for write in outcomes[0].results] == [
        write.value for write in outcomes[1].results
    ]


def test_vectors_of_two_trunks_never_meet_in_the_cache() -> None:
    """A text seen before a swap is encoded again by the new trunk, and found again after it."""
    pipeline = new_pipeline(models(32))
    gathered = asyncio.run(pipeline.gather(prepared(pipeline, 1, search(1))))
    pipeline.encode(gathered)
    pipeline.swap(models(48))
    for number, expected in ((2, True), (3, False)):
        gathered = asyncio.run(pipeline.gather(prepared(pipeline, number, search(1))))
        assert bool(gathered.arms[0].to_encode) is expected
        encoded = pipeline.encode(gathered)
        assert {vector.shape for vector in encoded.arms[0].texts.values()} == {(48,)}


def test_a_trial_serves_each_shopper_by_one_arm() -> None:
    """With a candidate beside it, a batch's results name arm and release by the shopper's hash."""
    pipeline = new_pipeline(models(32, release="one"))
    pipeline.swap(models(32, release="one"), Trial(models(32, release="two"), 0.4))
    events: list[Event] = [search(n, user=f"u{n}") for n in range(60)]
    events += [
        Review(
            event_id=f"v{n}", occurred_at=AT, user_id=f"u{n}", review_id=f"v{n}",
            product_id="tea", text="lovely",
        )
        for n in range(60)
    ]  # fmt: skip
    events += [
        Question(
            event_id=f"q{n}", occurred_at=AT, user_id=f"u{n}", question_id=f"q{n}",
            text="is it tea?",
        )
        for n in range(60)
    ]  # fmt: skip
    gathered = asyncio.run(pipeline.gather(prepared(pipeline, 1, *events)))
    outcome = pipeline.conclude(pipeline.encode(gathered), Catalogue(ProductIndex(32)))
    arms: dict[str, set[tuple[str, str]]] = {}
    for write in outcome.results:
        if write.user_id is not None:
            result = orjson.loads(write.value)
            arms.setdefault(write.user_id, set()).add((result["arm"], result["release"]))
    assert len(arms) == 60
    assert all(len(found) == 1 for found in arms.values())
    chosen = [next(iter(found)) for found in arms.values()]
    assert set(chosen) == {("current", "one"), ("candidate", "two")}
    record = record_of(outcome)
    assert record.release == "one"
    assert record.trial is not None
    assert (record.trial.release, record.trial.share) == ("two", 0.4)


def test_trending_belongs_to_the_current_release() -> None:
    """In a trial every shopper's purchase counts for one list, of the current release."""
    pipeline = new_pipeline(models(32, release="one"))
    pipeline.swap(models(32, release="one"), Trial(models(32, release="two"), 1.0))
    bought = Purchase(
        event_id="b", occurred_at=AT, user_id="u", order_id="o", items=[Item(product_id="tea")]
    )
    gathered = asyncio.run(pipeline.gather(prepared(pipeline, 1, bought)))
    outcome = pipeline.conclude(pipeline.encode(gathered), Catalogue(ProductIndex(32)))
    found = {write.kind: orjson.loads(write.value) for write in outcome.results}
    assert (found["trending"]["release"], found["trending"]["arm"]) == ("one", None)
    assert (found["recommendations"]["release"], found["recommendations"]["arm"]) == (
        "two",
        "candidate",
    )


def test_the_share_of_a_trial_is_kept_and_grows_without_changing_arms() -> None:
    """About the asked share of shoppers is drawn; a greater share keeps whoever was drawn."""
    shoppers = [f"pseudonym-{number}" for number in range(20_000)]
    small = {one for one in shoppers if arm_of(one, "two", 0.1) == "candidate"}
    large = {one for one in shoppers if arm_of(one, "two", 0.3) == "candidate"}
    other = {one for one in shoppers if arm_of(one, "three", 0.1) == "candidate"}
    assert abs(len(small) / len(shoppers) - 0.1) < 0.01
    assert small < large
    assert len(small & other) < 0.5 * len(small)
