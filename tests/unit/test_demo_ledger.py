"""The demo's books: an event is answered, a dead letter, forgotten or lost, and nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from worker.embedded.demo.ledger import Ledger, percentile
from worker.embedded.shop.records import Fault, SimulatedEvent
from worker.events.event import EventKind
from worker.store.contract import Version
from worker.store.results import version_text

AT = datetime(2025, 1, 1, tzinfo=UTC)
AT_MS = round(AT.timestamp() * 1000)


def make_event(
    kind: EventKind,
    event_id: str,
    result_id: str,
    *,
    user_id: str | None = "u1",
    fault: Fault | None = None,
) -> SimulatedEvent:
    return SimulatedEvent(kind, b"k", b"{}", event_id, AT, result_id, user_id, fault)


def version(event_id: str, later_ms: int = 0) -> str:
    return version_text(Version(AT_MS + later_ms, event_id))


def test_a_published_result_counts_only_after_it_was_read() -> None:
    """The word of Redis ends the latency; the event is answered when its result was read back."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.SEARCH, "e1", "e1"), 10.0)
    ledger.note_written(("search", "e1"), version("e1"), 10.25)
    assert ledger.open_count == 1
    assert ledger.take_written() == [sent]
    assert ledger.take_written() == []
    assert ledger.note_read(sent, version("e1"))
    assert ledger.open_count == 0
    assert ledger.answered[EventKind.SEARCH] == 1
    assert ledger.latencies_ms() == [pytest.approx(250.0)]


def test_two_looks_at_one_result_count_it_once() -> None:
    """A result read twice answers its event once."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.PRODUCT, "e1", "p1", user_id=None), 0.0)
    assert ledger.note_read(sent, version("e1"))
    assert not ledger.note_read(sent, version("e1"))
    assert ledger.answered[EventKind.PRODUCT] == 1
    assert ledger.open_count == 0


def test_a_result_that_is_gone_leaves_the_event_open() -> None:
    """Published but not there: the event waits on and would count as lost."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.SEARCH, "e1", "e1"), 0.0)
    ledger.note_written(("search", "e1"), version("e1"), 1.0)
    ledger.take_written()
    assert not ledger.note_read(sent, None)
    assert ledger.open_count == 1
    assert list(ledger.waiting()) == [sent]


def test_an_older_result_answers_nothing() -> None:
    """Recommendations made before a purchase do not answer it; newer ones answer all before."""
    ledger = Ledger()
    first = ledger.note_sent(make_event(EventKind.PURCHASE, "e2", "u1"), 0.0)
    second = ledger.note_sent(make_event(EventKind.PURCHASE, "e3", "u1"), 0.5)
    ledger.note_written(("recommendations", "u1"), version("e1"), 1.0)
    assert ledger.take_written() == []
    ledger.note_written(("recommendations", "u1"), version("e3"), 2.0)
    assert ledger.take_written() == [first, second]
    assert not ledger.note_read(first, version("e1"))
    assert ledger.note_read(first, version("e3"))
    assert ledger.note_read(second, version("e3"))
    assert ledger.open_count == 0
    assert ledger.latencies_ms([EventKind.PURCHASE]) == [2000.0, 1500.0]


@pytest.mark.parametrize("acknowledged_first", [True, False])
def test_a_dead_letter_is_matched_whenever_the_acknowledgement_comes(
    acknowledged_first: bool,
) -> None:
    """Dead letter and acknowledgement may come in either order; the event is buried once."""
    ledger = Ledger()
    event = make_event(EventKind.SEARCH, "e1", "e1", fault=Fault("schema"))
    sent = ledger.note_sent(event, 0.0)
    position = ("shop.searches", 2, 7)
    if acknowledged_first:
        ledger.note_position(sent, position)
        ledger.note_dead_letter(position, "schema")
    else:
        ledger.note_dead_letter(position, "schema")
        ledger.note_position(sent, position)
    assert ledger.dead_count == 1
    assert ledger.open_count == 0
    assert ledger.dead_letters == {"schema": 1}
    assert ledger.answered.total() == 0


def test_a_dead_letter_of_somebody_else_is_counted_but_buries_nothing() -> None:
    """A dead letter at a position we did not send to leaves our events open."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.SEARCH, "e1", "e1"), 0.0)
    ledger.note_position(sent, ("shop.searches", 0, 1))
    ledger.note_dead_letter(("shop.searches", 0, 2), "schema")
    assert ledger.open_count == 1
    assert ledger.dead_count == 0


def test_forgetting_settles_what_was_asked_before_and_nothing_after() -> None:
    """What a forgotten shopper did before the request needs no result any more; later events do."""
    ledger = Ledger()
    before = ledger.note_sent(make_event(EventKind.SEARCH, "e1", "e1"), 0.0)
    published = ledger.note_sent(make_event(EventKind.QUESTION, "e2", "q2"), 0.0)
    ledger.note_written(("answer", "q2"), version("e2"), 0.1)
    other = ledger.note_sent(make_event(EventKind.SEARCH, "e3", "e3", user_id="u2"), 0.0)
    after = ledger.note_sent(make_event(EventKind.SEARCH, "e9", "e9"), 0.0)
    ledger.note_forgotten("u1", version("e5"))
    assert set(ledger.waiting()) == {other, after}
    assert ledger.answered.total() == 2
    assert ledger.take_written() == []
    assert before not in ledger.waiting()
    assert published not in ledger.waiting()


def test_a_result_deleted_between_publication_and_reading_is_not_lost() -> None:
    """Forgotten after the publication and before the look: settled, once."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.SEARCH, "e1", "e1"), 0.0)
    ledger.note_written(("search", "e1"), version("e1"), 0.1)
    (taken,) = ledger.take_written()
    ledger.note_forgotten("u1", version("e5"))
    assert not ledger.note_read(taken, None)
    assert sent is taken
    assert ledger.open_count == 0
    assert ledger.answered[EventKind.SEARCH] == 1


def test_products_and_requests_to_be_forgotten_are_looked_up() -> None:
    """Redis says nothing of these: they stand among what is polled until they are read."""
    ledger = Ledger()
    product = ledger.note_sent(make_event(EventKind.PRODUCT, "e1", "p1", user_id=None), 0.0)
    forget = ledger.note_sent(make_event(EventKind.FORGET, "e2", "u1"), 0.0)
    ledger.note_sent(make_event(EventKind.SEARCH, "e3", "e3", user_id="u2"), 0.0)
    assert ledger.unpublished() == [product, forget]
    assert ledger.note_read(product, version("e1"))
    assert ledger.note_read(forget, version("e2"))
    assert ledger.unpublished() == []


def test_reviews_without_a_sentiment_head_are_answered_by_the_new_list() -> None:
    """Where no review at all is tagged, the reviewer's newer recommendations are the answer."""
    ledger = Ledger()
    sent = ledger.note_sent(make_event(EventKind.REVIEW, "e1", "r1"), 0.0)
    assert ledger.only_tags_missing()
    ledger.note_no_tags()
    assert not ledger.note_read(sent, version("e0"))
    assert ledger.note_read(sent, version("e1"))
    assert ledger.open_count == 0


def test_a_head_that_comes_later_owes_no_tags_to_reviews_before_it() -> None:
    """Reviews from before the first tag were answered by the list; one after it that waits is open.

    A forgotten shopper's review, which counts as answered, is no sign of a head.
    """
    ledger = Ledger()
    ledger.note_sent(make_event(EventKind.REVIEW, "e0", "r0", user_id="u2"), 0.0)
    ledger.note_forgotten("u2", version("e5"))
    before = ledger.note_sent(make_event(EventKind.REVIEW, "e1", "r1"), 1.0)
    assert ledger.only_tags_missing()
    tagged = ledger.note_sent(make_event(EventKind.REVIEW, "e2", "r2"), 2.0)
    ledger.note_written(tagged.place, version("e2"), 3.0)
    after = ledger.note_sent(make_event(EventKind.REVIEW, "e3", "r3"), 4.0)
    assert not ledger.only_tags_missing()
    assert ledger.note_read(after, version("e3"))
    assert ledger.only_tags_missing()
    ledger.note_no_tags()
    assert ledger.note_read(tagged, version("e2"))
    assert ledger.note_read(before, version("e2"))
    assert ledger.open_count == 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_percentiles_are_values_that_occurred(share: float, expected: float) -> None:
    """The nearest rank, from unsorted values."""
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_no_values_have_no_percentile() -> None:
    """Without values there is no percentile."""
    assert percentile([], 0.5) is None
