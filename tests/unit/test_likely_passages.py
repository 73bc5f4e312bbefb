"""What a replay encodes ahead for the questions to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from worker.events.event import Product, Question, Review
from worker.pipeline.changes import changes_of
from worker.pipeline.understanding import stored_passages
from worker.replay.likely_passages import likely_passages
from worker.store.contract import StateStep
from worker.store.memory_store import MemoryStore

START = datetime(2026, 3, 1, tzinfo=UTC)


def product(title: str, minute: int) -> Product:
    return Product(
        event_id=f"p{minute}", occurred_at=at(minute), product_id="tea", title=title
    )  # fmt: skip


def review(text: str, minute: int) -> Review:
    return Review(
        event_id=f"v{minute}", occurred_at=at(minute), user_id="ann", review_id=f"v{minute}",
        product_id="tea", text=text,
    )  # fmt: skip


def question(minute: int) -> Question:
    return Question(
        event_id=f"q{minute}", occurred_at=at(minute), user_id="bo", question_id=f"q{minute}",
        product_id="tea", text="How does it taste?",
    )  # fmt: skip


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


async def test_what_comes_before_a_question_is_among_its_passages() -> None:
    """Events not worked on yet count as their turn will find them, later ones do not."""
    store = MemoryStore()
    stands = [product("green tea", 1), review("Arrived quickly.", 2)]
    await store.apply(StateStep([change for event in stands for change in changes_of(event)]))
    before = [product("black tea", 3), review("It tastes of smoke.", 4)]
    events = [review("It tastes of malt.", 5), question(6), review("It tastes of nothing.", 7)]
    found = likely_passages(store, before, events, 16)
    coming = [*before, events[0]]
    await store.apply(StateStep([change for event in coming for change in changes_of(event)]))
    asked = stored_passages(question(6), store.peek_product("tea"), 16)
    assert set(found) == {("passage", one.match_text) for one in asked}
    texts = {text for _, text in found}
    assert {"black tea", "It tastes of smoke.", "It tastes of malt.", "Arrived quickly."} <= texts


async def test_a_store_elsewhere_is_not_asked() -> None:
    """Only a store in memory can be looked into ahead of time."""
    assert likely_passages(object(), [review("Good.", 1)], [question(2)], 16) == []
