"""The simulated shop: equal seeds give equal bytes, and what is said to be true is true."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import orjson
import pytest

from models.faq import load_faq
from worker.embedded.shop import SimulatedEvent, SimulatedShop
from worker.embedded.shop.records import ExpectedAnswer, Fault, Opinion, Wish
from worker.embedded.shop.vocabulary import ShopLocale
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind, ProductRemoved

LOCALES: tuple[ShopLocale, ...] = ("en", "zh")
START = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def decoded(event: SimulatedEvent) -> object:
    timestamp_ms = round(event.occurred_at.timestamp() * 1000)
    raw = RawRecord("topic", 0, 0, event.key, event.value, timestamp_ms)
    return decode_event(event.kind, raw, EventLimits())


def fields(event: SimulatedEvent) -> dict[str, object]:
    assert event.value is not None
    return dict(orjson.loads(event.value))


@pytest.fixture(scope="module", params=LOCALES)
def shop(request: pytest.FixtureRequest) -> SimulatedShop:
    return SimulatedShop(seed=3, locale=request.param)


@pytest.fixture(scope="module")
def events(shop: SimulatedShop) -> list[SimulatedEvent]:
    return list(islice(shop.events(START, rate=40.0), 6_000))


def valid(events: Sequence[SimulatedEvent], kind: EventKind) -> list[SimulatedEvent]:
    return [event for event in events if event.kind is kind and event.valid]


@pytest.mark.parametrize("locale", LOCALES)
def test_equal_seeds_give_equal_bytes_in_every_process(locale: ShopLocale) -> None:
    """A seed fixes catalogue and events to the byte, whatever the process's hash seed."""
    program = (
        "import hashlib, itertools, sys\n"
        "from worker.embedded.shop import SimulatedShop\n"
        f"shop = SimulatedShop(seed=11, locale={locale!r}, product_count=60, shopper_count=30)\n"
        "digest = hashlib.sha256()\n"
        "for event in [*shop.catalogue(), *itertools.islice(shop.events(), 800)]:\n"
        "    digest.update(repr((event.key, event.value)).encode())\n"
        "print(digest.hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1
    other = SimulatedShop(seed=12, locale=locale, product_count=60, shopper_count=30)
    digest = hashlib.sha256()
    for event in [*other.catalogue(), *islice(other.events(), 800)]:
        digest.update(repr((event.key, event.value)).encode())
    assert digest.hexdigest() + "\n" not in digests


def test_a_second_run_of_one_shop_repeats_the_first(shop: SimulatedShop) -> None:
    """Iterating twice gives the same events: a run keeps its state to itself."""
    first, second = (list(islice(shop.events(START), 500)) for _ in range(2))
    assert first == second


def test_every_event_decodes_and_every_broken_record_does_not(
    events: list[SimulatedEvent],
) -> None:
    """Valid events pass the real decoder; broken ones fail with the code they were made for."""
    codes = set()
    for event in events:
        result = decoded(event)
        if isinstance(event.truth, Fault):
            assert isinstance(result, InvalidEvent)
            assert result.code == event.truth.code
            codes.add(result.code)
        elif event.value is None:
            assert isinstance(result, ProductRemoved)
            assert result.product_id == event.result_id
        else:
            assert not isinstance(result, InvalidEvent), result
            assert result.event_id == event.event_id  # type: ignore[attr-defined]
    assert codes >= {"invalid_json", "schema", "key_mismatch", "key_missing", "future", "empty"}


def test_every_kind_happens(events: list[SimulatedEvent]) -> None:
    """Traffic holds every kind of event, searches most of all."""
    counts = Counter(event.kind for event in events if event.valid)
    assert set(counts) == set(EventKind)
    assert counts.most_common(1)[0][0] is EventKind.SEARCH
    assert counts[EventKind.PURCHASE] > len(events) / 10


def test_event_ids_are_unique_and_times_follow_the_rate(events: list[SimulatedEvent]) -> None:
    """Each event has an id of its own and takes one tick of event time."""
    ids = [event.event_id for event in events if event.event_id]
    assert len(ids) == len(set(ids))
    assert all(
        event.occurred_at == START + timedelta(milliseconds=25 * tick)
        for tick, event in enumerate(events)
    )


def test_the_catalogue_happens_before_the_events(shop: SimulatedShop) -> None:
    """Every product is put before the first event, under the id the events use."""
    products = list(shop.catalogue(START))
    assert [event.result_id for event in products] == [one.product_id for one in shop.products]
    assert all(START - timedelta(seconds=1) <= event.occurred_at < START for event in products)
    assert len({one.title for one in shop.products}) > 0.95 * len(shop.products)


def test_what_shoppers_buy_shows_their_taste(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """A bought product stands far above the middle of its category by the shopper's own utility,
    and above where a stranger's utility puts it."""
    own, stranger = [], []
    for event in valid(events, EventKind.PURCHASE):
        (item,) = fields(event)["items"]  # type: ignore[misc]
        bought = shop.product(item["product_id"])
        rivals = [one for one in shop.products if one.category_id == bought.category_id]
        other = shop.shoppers[(int(str(event.user_id)[1:]) + 17) % len(shop.shoppers)]
        for shopper, ranks in ((shop.shopper(str(event.user_id)), own), (other, stranger)):
            utilities = shop.true_utilities(shopper)
            below = sum(utilities[one.product_id] < utilities[bought.product_id] for one in rivals)
            ranks.append(below / (len(rivals) - 1))
    assert sum(own) / len(own) > 0.7
    assert sum(own) / len(own) > sum(stranger) / len(stranger) + 0.1


def test_liked_traits_can_be_read_from_purchases(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """The traits of what was bought are liked more than those of the same categories at large."""
    liked, usual = [], []
    for event in valid(events, EventKind.PURCHASE):
        (item,) = fields(event)["items"]  # type: ignore[misc]
        bought = shop.product(item["product_id"])
        weights = shop.shopper(str(event.user_id)).taste.traits
        liked += [weights[trait] for trait in bought.traits]
        for one in shop.products:
            if one.category_id == bought.category_id:
                usual += [weights[trait] for trait in one.traits]
    assert sum(liked) / len(liked) > sum(usual) / len(usual) + 0.25


def test_searches_mean_what_their_wish_says(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """A search has a true answer in the shop, and what is shown is of the category wished for."""
    exact = 0
    searches = valid(events, EventKind.SEARCH)
    for event in searches:
        assert isinstance(event.truth, Wish)
        content = fields(event)
        assert content["query"] == event.truth.text
        gains = shop.true_relevance(event.truth)
        exact += any(gain == 1.0 for gain in gains.values())
        shown = content["shown"]
        assert isinstance(shown, list)
        assert len(set(shown)) == len(shown)
        assert {shop.product(id).category_id for id in shown} == {event.truth.category_id}
    assert exact > 0.8 * len(searches)


def test_purchase_chances_are_a_distribution(shop: SimulatedShop) -> None:
    """The chances of one search add up to less than 1: leaving is possible."""
    event = next(event for event in shop.events() if isinstance(event.truth, Wish))
    assert isinstance(event.truth, Wish)
    shopper = shop.shopper(str(event.user_id))
    chances = shop.purchase_chances(shopper, event.truth)
    assert 0.0 < sum(chances.values()) < 1.0
    fits = {id: shopper.fit(shop.product(id)) for id in chances}
    best, worst = max(fits, key=fits.__getitem__), min(fits, key=fits.__getitem__)
    flat = shop.purchase_chances(shopper, Wish("", event.truth.category_id), pull={})
    assert flat[best] > flat[worst]


def test_review_texts_fit_their_stars(events: list[SimulatedEvent]) -> None:
    """Stars and sentiment agree, all three sentiments occur, and texts are rarely the same."""
    reviews = valid(events, EventKind.REVIEW)
    seen: Counter[str] = Counter()
    for event in reviews:
        assert isinstance(event.truth, Opinion)
        stars = fields(event)["stars"]
        expected = {1: "negative", 2: "negative", 3: "neutral"}.get(int(str(stars)), "positive")
        assert event.truth.sentiment == expected
        seen[expected] += 1
    assert all(seen[label] > 0.05 * len(reviews) for label in ("negative", "neutral", "positive"))
    texts = {fields(event)["text"] for event in reviews}
    assert len(texts) > 0.8 * len(reviews)


def test_expected_answers_stand_where_they_are_said_to(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """An answer expected from a product is in its description, one from the FAQ in its file."""
    faq = {entry.id: entry for entry in load_faq(shop.faq_file)}
    sources: Counter[str | None] = Counter()
    for event in valid(events, EventKind.QUESTION):
        assert isinstance(event.truth, ExpectedAnswer)
        content = fields(event)
        sources[event.truth.source] += 1
        if event.truth.source == "faq":
            assert event.truth.id in faq
        elif event.truth.source == "product":
            assert event.truth.id == content["product_id"]
            assert str(event.truth.text) in shop.product(str(event.truth.id)).description
        else:
            product = shop.product(str(content["product_id"]))
            stated = [fact for fact in product.facts.values() if content["text"] in fact.asks]
            assert not stated
    assert set(sources) == {"product", "faq", None}


def test_the_forgotten_do_nothing_any_more(events: list[SimulatedEvent]) -> None:
    """After a shopper asked to be forgotten, no event carries the shopper's id."""
    forgotten: set[str] = set()
    for event in events:
        assert event.user_id not in forgotten
        if event.kind is EventKind.FORGET:
            forgotten.add(str(event.user_id))
    assert forgotten


def test_consumables_are_bought_again_and_other_things_are_not(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """Some shoppers buy the same consumable again; nobody buys the same tent twice."""
    bought: Counter[tuple[str, str]] = Counter()
    for event in valid(events, EventKind.PURCHASE):
        (item,) = fields(event)["items"]  # type: ignore[misc]
        bought[str(event.user_id), item["product_id"]] += 1
    again = {id for (_, id), count in bought.items() if count > 1}
    assert again
    assert all(shop.words.categories[shop.product(id).category_id].consumable for id in again)


def test_complements_are_bought_together_more_than_by_chance(
    shop: SimulatedShop, events: list[SimulatedEvent]
) -> None:
    """In a visit with two purchases the second is mostly a complement of the first."""
    visits: dict[str, list[str]] = {}
    for event in valid(events, EventKind.PURCHASE):
        content = fields(event)
        if "session_id" in content:
            (item,) = content["items"]  # type: ignore[misc]
            category = shop.product(item["product_id"]).category_id
            visits.setdefault(str(content["session_id"]), []).append(category)
    pairs = [(cats[0], cats[1]) for cats in visits.values() if len(cats) > 1]
    assert len(pairs) > 50
    assert all(second in shop.words.categories[first].complements for first, second in pairs)


def test_wrong_arguments_are_refused() -> None:
    """A shop without products and a rate of zero are errors at once."""
    with pytest.raises(ValueError, match="at least one product"):
        SimulatedShop(product_count=0)
    with pytest.raises(ValueError, match="rate"):
        SimulatedShop(product_count=24).events(rate=0)
