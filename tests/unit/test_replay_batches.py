"""How a comparison cuts events: by what they read and change, never by what is quick."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from tests.support.recordings import event_record, write_recording
from tests.unit.test_replay_compare import arm, read, simulated
from worker.events.event import EventKind
from worker.replay.comparing.batches import batches_of, window_of
from worker.replay.comparing.comparison import Comparison
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.comparing.state import EventTimeStore
from worker.replay.pace import Pace
from worker.replay.recordings.merge import RecordedEvent


def cut(folder: Path, *steps: str) -> list[str]:
    """Return the batches of steps `kind:shopper:product`, each in one word."""
    kinds = {
        "search": (EventKind.SEARCH, lambda u, p: {"query": "tea"}),
        "buy": (EventKind.PURCHASE, lambda u, p: {"order_id": u + p, "items": _items(p)}),
        "return": (EventKind.RETURN, lambda u, p: {"order_id": u + p, "items": _items(p)}),
        "review": (EventKind.REVIEW, lambda u, p: _text(u, p) | {"review_id": u + p}),
        "ask": (EventKind.QUESTION, lambda u, p: _text(u, p) | {"question_id": u + p}),
        "forget": (EventKind.FORGET, lambda u, p: {}),
    }
    records = []
    for number, step in enumerate(steps):
        name, user, product = step.split(":")
        kind, fields = kinds[name]
        records.append(
            event_record(kind, 1_000 * number, {"user_id": user} | fields(user, product))
        )
    events = read(write_recording(folder, records))
    named = dict(zip((one.event.event_id for one in events), steps, strict=True))
    return [
        " ".join(named[one.event.event_id].split(":")[0] for one in batch.events)
        for batch in batches_of(events, 0)
    ]


def _items(product: str) -> list[dict[str, str]]:
    return [{"product_id": product}]


def _text(user: str, product: str) -> dict[str, str]:
    return {"product_id": product, "text": f"{user} on {product}"}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("search:a: search:b: search:c:", ["search search search"]),
        ("search:a: search:a:", ["search", "search"]),  # the first reads the history
        ("search:a: ask:a:p", ["search", "ask"]),
        ("ask:a:p search:a:", ["ask search"]),  # a question reads no history
        ("search:a: buy:b:p search:c:", ["search", "buy search"]),  # all read what is popular
        ("buy:a:p buy:b:q", ["buy", "buy"]),
        ("ask:a:p buy:b:p return:c:p", ["ask buy", "return"]),
        ("ask:a:p review:b:p", ["ask", "review"]),  # the question is answered from reviews
        ("ask:a:p review:b:q", ["ask review"]),
        ("review:b:p ask:a:p", ["review ask"]),
        ("ask:a:p forget:b: ask:c:q", ["ask", "forget", "ask"]),
    ],
)
def test_no_event_reads_what_a_later_one_of_its_batch_changes(
    tmp_path: Path, steps: str, expected: list[str]
) -> None:
    """Events share a batch unless a later one changes what an earlier one reads."""
    assert cut(tmp_path / "r", *steps.split()) == expected


async def test_batches_of_one_event_give_the_same_results(tmp_path: Path) -> None:
    """All results are those of a replay that keeps a pace, which takes one event at a time."""
    events = simulated(tmp_path / "r", 400)
    together, batched = await results(events)
    alone, single = await results(events, Pace(1e9))
    assert batched < 0.6 * single
    assert together == alone
    assert sum(map(len, alone.values())) > 600


async def results(
    events: Sequence[RecordedEvent], pace: Pace | None = None
) -> tuple[dict[str, list[bytes]], int]:
    """Return each key's results in order, without the batches' numbers, and how many batches."""
    found: dict[str, list[bytes]] = defaultdict(list)
    count = 0

    def judge(batch: Sequence[JudgedEvent]) -> None:
        nonlocal count
        count += 1
        for one in batch[0].outcomes["a"].outcome.results:
            plain = re.sub(rb'"(batch_id":"replay-|step":)\d+', rb'"\1', one.value)
            found[f"{one.kind}:{one.id}"].append(plain)
        for judged in batch:
            for message in judged.outcomes["a"].outcome.messages:
                if message.event_id:
                    assert message.event_id == judged.event.event_id
                    found[message.key.decode()].append(message.value or b"")

    await Comparison([arm()], EventTimeStore(), pace).run(events, judge)
    return found, count


def test_windows_cut_no_batch(tmp_path: Path) -> None:
    """Batches are the same whatever the windows that texts are encoded in."""
    events = simulated(tmp_path / "r", 300)
    whole = list(batches_of(events, events[-100].at_ms))
    assert [*chain.from_iterable(batch.events for batch in whole)] == events
    assert {batch.kind for batch in whole} == {"products", "warm-up", "judged"}
    for characters in (1, 500, 100_000):
        cutting = batches_of(events, events[-100].at_ms)
        windows = list(iter(lambda: window_of(cutting, characters), []))  # noqa: B023
        assert [*chain.from_iterable(windows)] == whole
