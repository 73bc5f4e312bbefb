"""The history cache changes nothing but time."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from models.recommendation.shopper import ShopperEvent
from tests.support.state_steps import events
from worker.store.codec import encode_history_member
from worker.store.scripts import history_cache
from worker.store.scripts.history_cache import HistoryCache


def joined(history: Sequence[ShopperEvent], cap: int = 6) -> bytes:
    """The members as Redis keeps and the script joins them."""
    members = {(event.occurred_at_ms, encode_history_member(event)) for event in history}
    return b",".join(member for _, member in sorted(members)[-cap:])


def numbered(*numbers: int) -> list[ShopperEvent]:
    return [ShopperEvent(number, f"e{number}", "search", query="q") for number in numbers]


@given(st.lists(st.tuples(st.sampled_from("uv"), events), max_size=25))
def test_same_as_anew(arrivals: list[tuple[str, ShopperEvent]]) -> None:
    """Through any arrivals, late ones and repeats too, a cached history equals one decoded anew."""
    cache, histories = HistoryCache(max_events=8), {"u": [], "v": []}
    for user, event in arrivals:
        histories[user].append(event)
        text = joined(histories[user])
        assert cache.decode(user, text) == HistoryCache().decode(user, text)


def test_decodes_only_what_is_new(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A history that goes on costs its new events, also when the oldest are cut off."""
    decoded = []
    decode = history_cache.decode_history_member
    monkeypatch.setattr(
        history_cache,
        "decode_history_member",
        lambda fields: decoded.append(fields[0]) or decode(fields),
    )
    cache = HistoryCache()
    for last in range(2, 12):
        history = numbered(*range(1, last))
        assert cache.decode("u", joined(history)) == history[-6:]
    assert decoded == [f"e{number}" for number in range(1, 11)]


def test_bounded() -> None:
    """Only so many events are kept; the shoppers least recently read leave."""
    cache = HistoryCache(max_events=5)
    for user in "abc":
        cache.decode(user, joined(numbered(1, 2)))
    assert list(cache._histories) == ["b", "c"]
    cache.decode("b", b"")
    assert list(cache._histories) == ["c"]
