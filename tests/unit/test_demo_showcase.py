"""The showcase scores results against the simulation's truth and shows them at reading speed."""

from __future__ import annotations

from itertools import islice
from typing import Any

from worker.embedded.demo.showcase import HOLD_S, Showcase
from worker.embedded.shop import SimulatedEvent, SimulatedShop
from worker.embedded.shop.records import ExpectedAnswer, Opinion, Wish
from worker.events.event import EventKind

SHOP = SimulatedShop(seed=5, product_count=240, shopper_count=60)
EVENTS = list(islice(SHOP.events(), 2_000))


def first(kind: EventKind, truth: type, **fields: object) -> SimulatedEvent:
    return next(
        event
        for event in EVENTS
        if event.kind is kind
        and event.valid
        and (truth is object or isinstance(event.truth, truth))
        and all(getattr(event.truth, name) == value for name, value in fields.items())
    )


def listed(*product_ids: str, **fields: object) -> dict[str, Any]:
    items = [
        {
            "product_id": id,
            "title": SHOP.product(id).title,
            "score": 1.0,
            "reason": {"kind": "popular", "text": "popular now", "because": []},
        }
        for id in product_ids
    ]
    return {"items": items, **fields}


def tag(event: SimulatedEvent, **fields: object) -> dict[str, Any]:
    """A review's tags as they stand in Redis."""
    return {"event_id": event.event_id, "release": "r", "confidence": 0.9, **fields}


def test_a_search_is_scored_by_its_first_product() -> None:
    """The first product fits when it has all that was asked for."""
    event = next(
        event
        for event in EVENTS
        if isinstance(event.truth, Wish)
        and 0 < list(SHOP.true_relevance(event.truth).values()).count(1.0) < 10
    )
    assert isinstance(event.truth, Wish)
    gains = SHOP.true_relevance(event.truth)
    exact = next(id for id, gain in gains.items() if gain == 1.0)
    other = next(id for id, gain in gains.items() if gain < 1.0)
    showcase = Showcase(SHOP)
    for ids in ((exact, other), (other, exact), ()):
        showcase.take(event, listed(*ids, query=event.truth.text), 0.0)
    assert showcase.scores() == {"search_first_fits": round(1 / 3, 4)}
    assert showcase.searches[0].heading == f"“{event.truth.text}”"


def test_tags_are_scored_by_what_the_writer_meant() -> None:
    """Right and wrong tags count alike, each for the release that made it."""
    event = first(EventKind.REVIEW, Opinion, sentiment="positive")
    showcase = Showcase(SHOP)
    for label, release in (("positive", "new"), ("negative", "old")):
        showcase.take(event, tag(event, sentiment=label, release=release), 0.0)
    assert showcase.scores() == {"sentiment_right": 0.5}
    assert showcase.reviews[0].text == event.content()["text"]
    for release, share in (("new", 1.0), ("old", 0.0)):
        right = showcase.tags_right.right([release])
        assert right is not None
        assert (right.value, right.cases) == (share, 1)


def test_the_tag_of_a_later_correction_is_no_tag_of_the_review_before_it() -> None:
    """What stands in Redis by then may answer the corrected text: it is not scored."""
    event = first(EventKind.REVIEW, Opinion, sentiment="positive")
    showcase = Showcase(SHOP)
    showcase.take(event, tag(event, event_id="e-later", sentiment="negative"), 0.0)
    assert showcase.scores() == {}
    assert showcase.tags_right.others([]) == []


def test_an_answer_is_right_when_it_comes_from_where_it_stands() -> None:
    """The product's own sentence is right, another sentence and no answer are wrong."""
    event = first(EventKind.QUESTION, ExpectedAnswer, source="product")
    assert isinstance(event.truth, ExpectedAnswer)
    source = {"kind": "product", "id": event.truth.id}
    question = {"question": "?", "confidence": 0.9}
    showcase = Showcase(SHOP)
    showcase.take(event, {**question, "text": event.truth.text, "source": source}, 0.0)
    assert showcase.scores() == {"answer_right": 1.0}
    showcase.take(event, {**question, "text": "Comes in grey.", "source": source}, 0.0)
    showcase.take(event, {**question, "text": None, "source": None}, 0.0)
    assert showcase.scores() == {"answer_right": round(1 / 3, 4)}


def test_no_answer_is_right_where_there_is_none() -> None:
    """Abstaining is right for a question that nothing answers."""
    event = first(EventKind.QUESTION, ExpectedAnswer, source=None)
    showcase = Showcase(SHOP)
    showcase.take(event, {"question": "?", "text": None, "source": None, "confidence": 0.1}, 0.0)
    assert showcase.scores() == {"answer_right": 1.0}
    assert showcase.answers[0].answer is None


def test_recommendations_are_scored_by_the_true_taste() -> None:
    """The shopper's best products score near 1, the worst near 0."""
    event = first(EventKind.PURCHASE, object)
    utilities = SHOP.true_utilities(SHOP.shopper(str(event.user_id)))
    ranked = sorted(utilities, key=utilities.__getitem__)
    for ids, low, high in ((ranked[-5:], 0.95, 1.0), (ranked[:5], 0.0, 0.05)):
        showcase = Showcase(SHOP)
        showcase.take(event, listed(*ids, user_id=event.user_id), 0.0)
        assert low <= showcase.scores()["taste_percentile"] <= high


def test_entries_change_no_faster_than_people_read() -> None:
    """Within the hold time results are scored but the shown entry stays."""
    event = first(EventKind.REVIEW, Opinion)
    showcase = Showcase(SHOP)
    for now_s in (0.0, HOLD_S / 3, HOLD_S / 2, HOLD_S + 0.1):
        showcase.take(event, tag(event, sentiment="neutral"), now_s)
    assert len(showcase.reviews) == 2
