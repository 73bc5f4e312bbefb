"""Samples: which search a purchase answers, and what leaves the worker about a shopper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from models.recommendation.shopper import ShopperEvent
from models.sample import NextItemSample, SearchSample
from worker.events.event import Item, Purchase, Return, Review, Search
from worker.pipeline.changes import history_event
from worker.pipeline.options import PipelineOptions
from worker.pipeline.privacy import mask_personal_data, pseudonym
from worker.pipeline.samples import SampleMaker

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OPTIONS = PipelineOptions(process_id="p1", privacy_key=b"key", attribution_window_s=3600.0)


def search(event_id: str, minute: float, shown: list[str], session: str | None = None) -> Search:
    return Search(
        event_id=event_id,
        occurred_at=START + timedelta(minutes=minute),
        user_id="ann",
        session_id=session,
        query=f"query of {event_id}",
        shown=shown,
    )


def purchase(event_id: str, minute: float, *products: str, session: str | None = None) -> Purchase:
    return Purchase(
        event_id=event_id,
        occurred_at=START + timedelta(minutes=minute),
        user_id="ann",
        session_id=session,
        order_id=f"order-{event_id}",
        items=[Item(product_id=product) for product in products],
    )


def history(*events: Search | Purchase) -> list[ShopperEvent]:
    return sorted((history_event(event) for event in events), key=lambda event: event.order)


def credited(event: Purchase, *events: Search | Purchase) -> list[SearchSample]:
    made = SampleMaker(OPTIONS).of_purchase(event, history(*events, event))
    return [sample for sample in made if isinstance(sample, SearchSample)]


def test_purchase_credits_latest_search_that_showed_it() -> None:
    """A purchase answers the latest search that showed the product; the rest is negative."""
    bought = purchase("p1", 30, "b")
    samples = credited(
        bought, search("s1", 0, ["a", "b"]), search("s2", 10, ["b", "c"]), search("s3", 20, ["d"])
    )
    assert [sample.search_event_id for sample in samples] == ["s2"]
    assert samples[0].positive == "b"
    assert samples[0].negatives == ["c"]


def test_attribution_window_ends() -> None:
    """A search longer before the purchase than the window gets no credit; one just inside does."""
    bought = purchase("p1", 100, "b")
    assert credited(bought, search("s1", 39.9, ["b"])) == []
    assert len(credited(bought, search("s1", 40, ["b"]))) == 1


def test_search_after_purchase_gets_no_credit() -> None:
    """A search that happened after the purchase never gets its credit."""
    assert credited(purchase("p1", 5, "b"), search("s1", 6, ["b"])) == []


def test_unknown_impressions_count_in_the_same_session() -> None:
    """A search of unknown impressions is credited in its own session only."""
    bought = purchase("p1", 5, "b", session="visit-1")
    assert credited(bought, search("s1", 0, [], session="visit-2")) == []
    assert credited(bought, search("s1", 0, [], session="visit-1"))[0].negatives == []


def test_late_search_credits_again_with_the_same_id() -> None:
    """A search that arrives after its purchase gives the sample that on-time arrival would give."""
    late, bought = search("s1", 0, ["a", "b"]), purchase("p1", 5, "b")
    on_time = credited(bought, late)
    again = list(SampleMaker(OPTIONS).of_search(late, history(late, bought)))
    assert again == on_time


def test_bought_later_in_the_window_is_no_negative() -> None:
    """A product shown and bought by another order of the window is not a negative."""
    first, second = purchase("p1", 5, "a"), purchase("p2", 9, "b")
    found = credited(second, search("s1", 0, ["a", "b", "c"]), first)
    assert found[0].negatives == ["c"]


def test_return_names_the_label_of_its_line() -> None:
    """A return's reversal names the label of the returned line, and of no other."""
    bought = purchase("p1", 5, "a", "b")
    samples = credited(bought, search("s1", 0, ["a", "b"]))
    back = Return(
        event_id="r1",
        occurred_at=START + timedelta(days=3),
        user_id="ann",
        order_id=bought.order_id,
        items=[Item(product_id="b")],
    )
    reversal = SampleMaker(OPTIONS).of_return(back)
    reversed_products = {s.positive for s in samples if s.label_key in reversal.label_keys}
    assert reversed_products == {"b"}


def test_sequence_holds_only_the_past() -> None:
    """A next-item sample holds the events before the purchase, oldest first, and nothing later."""
    bought = purchase("p1", 30, "b")
    made = SampleMaker(OPTIONS).of_purchase(
        bought, history(search("s2", 40, []), search("s1", 0, []), purchase("p0", 10, "a"), bought)
    )
    sequence = next(sample for sample in made if isinstance(sample, NextItemSample))
    assert [item.kind for item in sequence.history] == ["search", "purchase"]
    assert sequence.next_products == ["b"]


def test_review_sample_hides_who_wrote_it() -> None:
    """A review's sample holds a pseudonym and a masked text, never the user id or an address."""
    review = Review(
        event_id="e1",
        occurred_at=START,
        user_id="ann",
        review_id="r1",
        product_id="p",
        text="Great, write me at ann@example.com or +49 151 2345 6789",
        stars=5,
    )
    sample = SampleMaker(OPTIONS).of_review(review)
    assert sample is not None
    assert sample.text == "Great, write me at <email> or <phone>"
    assert "ann" not in sample.model_dump_json().replace("<email>", "")
    assert sample.user == pseudonym("ann", b"key") != pseudonym("ann", b"other key")


def test_masking_in_both_languages() -> None:
    """Personal numbers are masked in Chinese and English text; prices and sizes stay."""
    assert mask_personal_data("请打我电话13812345678，谢谢") == "请打我电话<phone>，谢谢"
    assert mask_personal_data("身份证11010519491231002X") == "身份证<id>"
    assert mask_personal_data("card 4111 1111 1111 1111 please") == "card <card> please"
    assert mask_personal_data("call 555-123-4567") == "call <phone>"
    assert mask_personal_data("13.3 inch, 1299.00, pack of 24") == "13.3 inch, 1299.00, pack of 24"
