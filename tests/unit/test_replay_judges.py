"""The judges' arithmetic against values that are known."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import orjson
import pytest

from models.metrics import mean_estimate
from models.product_index import ProductIndex
from tests.support.recordings import event_record
from worker.events.event import EVENT_TYPES, EventKind
from worker.pipeline.batch import Outcome, Position
from worker.replay.comparing.outcomes import ArmOutcome, JudgedEvent
from worker.replay.following.on_disk import RecordsOnDisk
from worker.replay.judge.bootstrap import ShopperWeights, Table
from worker.replay.judge.off_policy import OffPolicyJudge
from worker.replay.judge.sentiment import SentimentJudge
from worker.replay.judge.timeline import BUCKETS, Timeline
from worker.replay.pace import Pace
from worker.replay.recordings.files import StoredRecord
from worker.replay.recordings.merge import RecordedEvent
from worker.replay.report.page import render
from worker.store.contract import ResultKind, ResultWrite, StateView, Version


def judged(kind: EventKind, at_ms: int, fields: dict[str, Any], **made: Any) -> JudgedEvent:
    """Return an event with the results each arm made: arm -> (kind, id, value)."""
    _, key, value, _ = event_record(kind, at_ms, fields)
    event = EVENT_TYPES[kind].model_validate_json(value)
    outcomes = {
        arm: ArmOutcome(
            Outcome(
                "b", [ResultWrite(k, i, Version(at_ms, "e"), orjson.dumps(v), 1)], []
            ), 0.001, 0.002,
        )
        for arm, (k, i, v) in made.items()
    }  # fmt: skip
    raw = StoredRecord(0, at_ms, key, value)
    recorded = RecordedEvent(Position("t", 0, 0), event, at_ms, raw)
    return JudgedEvent(recorded, event, StateView(1), outcomes, ProductIndex(4))


def test_running_means_agree_with_those_over_all_cases() -> None:
    """With one case a shopper the Poisson bootstrap gives the intervals of the common one."""
    generator = np.random.default_rng(1)
    values = generator.random((3_000, 2))
    table = Table(["a", "b"], ["m"], ShopperWeights())
    for number, row in enumerate(values):
        table.add(f"u{number}", row[:, None])
    cell = table.as_json()["all"]["m"]["b"]
    expected = mean_estimate(values[:, 1])
    gap = mean_estimate(values[:, 1] - values[:, 0])
    assert cell["value"] == pytest.approx(expected.value, abs=1e-6)
    assert cell["low"] == pytest.approx(expected.low, abs=2e-3)
    assert cell["high"] == pytest.approx(expected.high, abs=2e-3)
    difference = cast(dict[str, float], cell["difference"])
    assert difference["value"] == pytest.approx(gap.value, abs=1e-6)
    assert difference["low"] == pytest.approx(gap.low, abs=3e-3)


def test_a_shopper_s_cases_stay_together() -> None:
    """Ten copies of each case by the same shopper make the interval no narrower."""
    values = np.random.default_rng(2).random(400)
    widths = []
    for copies in (1, 10):
        table = Table(["a"], ["m"], ShopperWeights())
        for number, value in enumerate(values):
            for _ in range(copies):
                table.add(f"u{number}", np.array([[value]]))
        cell = table.as_json()["all"]["m"]["a"]
        widths.append(cast(float, cell["high"]) - cast(float, cell["low"]))
    assert widths[1] == pytest.approx(widths[0], rel=1e-3)


def test_segments_beyond_the_cap_are_joined() -> None:
    """The number of segments is bounded, and no case is lost."""
    table = Table(["a"], ["m"], ShopperWeights(10), most=5)
    for number in range(50):
        table.add("u", np.ones((1, 1)), (f"category: {number}",))
    cases = {name: one["m"]["a"]["cases"] for name, one in table.as_json().items()}
    assert len(cases) <= 6
    assert sum(cast(int, n) for name, n in cases.items() if name != "all") == 50


def test_a_timeline_keeps_to_its_buckets() -> None:
    """However long the log is, so many buckets hold all of its cases."""
    timeline = Timeline(["a"], ShopperWeights(10))
    for number in range(5_000):
        timeline.add("m", number * 3_600_000, "u", np.array([1.0]))
    buckets = timeline.as_json()["m"]
    assert len(buckets) <= BUCKETS
    assert sum(one["arms"]["a"]["cases"] for one in buckets) == 5_000


def test_off_policy_estimates_find_the_true_value() -> None:
    """Of a logged random page the estimators give what another order would have earned."""
    chance = random.Random(4)
    judge = OffPolicyJudge(["a", "b"], 2, 1_000, ShopperWeights(100))
    rates = {"good": 0.5, "bad": 0.1}  # bought when shown first; the second place sells half
    for number in range(1_500):
        shown = ["good", "bad"] if chance.random() < 0.5 else ["bad", "good"]
        fields = {"user_id": f"u{number}", "query": "q", "shown": shown,
                  "propensities": [0.5, 0.5]}  # fmt: skip
        at_ms = number * 5_000
        lists = {
            arm: (ResultKind.SEARCH, f"search-{at_ms}-u{number}", _items(order))
            for arm, order in (("a", ["bad", "good"]), ("b", ["good", "bad"]))
        }
        judge.see(judged(EventKind.SEARCH, at_ms, fields, **lists))
        bought = [
            one for place, one in enumerate(shown) if chance.random() < rates[one] / (place + 1)
        ]
        if bought:
            items = [{"product_id": one} for one in bought]
            order = {"user_id": f"u{number}", "order_id": "o", "items": items}
            judge.see(judged(EventKind.PURCHASE, at_ms + 500, order))
    found = judge.finish()
    assert found["supported"]
    for name in ("ips", "doubly_robust"):
        cells = found["estimates"][name]
        for arm, truth in (("a", 0.1 + 0.25), ("b", 0.5 + 0.05)):
            assert cells[arm]["low"] <= truth <= cells[arm]["high"], (name, arm, cells)
        assert cells["b"]["difference"]["low"] > 0
    assert found["mean_weight"]["a"] == pytest.approx(1.0, abs=0.1)


def _items(order: list[str]) -> dict[str, Any]:
    return {"items": [{"product_id": one} for one in order]}


def test_off_policy_estimates_say_what_is_missing() -> None:
    """Without searches, impressions, propensities or usable ones the report says so."""
    for fields, words in (
        (None, "no searches"),
        ({}, "what was shown"),
        ({"shown": ["p"]}, "not with which propensity"),
        ({"shown": ["p"], "propensities": [0.0]}, "propensit"),
    ):
        judge = OffPolicyJudge(["a"], 2, 1_000, ShopperWeights(10))
        if fields is not None:
            made = (ResultKind.SEARCH, "search-1-u", _items(["p"]))
            asked = {"user_id": "u", "query": "q", **fields}
            judge.see(judged(EventKind.SEARCH, 1, asked, a=made))
        found = judge.finish()
        assert not found["supported"]
        assert words in found["why"]


def test_sentiment_is_judged_by_the_stars() -> None:
    """Accuracy, macro F1 and calibration are those of the tags against the stars."""
    judge = SentimentJudge(["a", "b"], ShopperWeights(50), Timeline(["a", "b"], ShopperWeights(50)))
    sure = {"negative": 0.9, "neutral": 0.05, "positive": 0.05}
    unsure = {"negative": 0.2, "neutral": 0.2, "positive": 0.6}
    for number, stars in enumerate((1, 2, 5, 4)):
        fields = {"user_id": f"u{number}", "review_id": f"r{number}", "product_id": "p",
                  "text": "t", "stars": float(stars)}  # fmt: skip
        right = sure if stars < 3 else {**sure, "negative": 0.05, "positive": 0.9}
        made = {
            "a": (ResultKind.TAGS, f"r{number}", {"probabilities": right}),
            "b": (ResultKind.TAGS, f"r{number}", {"probabilities": unsure}),
        }
        judge.see(judged(EventKind.REVIEW, number, fields, **made))
    found = judge.finish()
    assert found["cases"] == 4
    assert found["metrics"]["accuracy"]["a"]["value"] == 1.0
    assert found["metrics"]["accuracy"]["b"]["value"] == 0.5
    assert found["metrics"]["macro_f1"]["b"]["value"] == pytest.approx((0 + 2 / 3) / 2, abs=1e-5)
    assert found["metrics"]["calibration_error"]["a"]["value"] == pytest.approx(0.1)
    assert found["metrics"]["calibration_error"]["b"]["value"] == pytest.approx(0.1)
    assert found["metrics"]["accuracy"]["b"]["difference"]["value"] == -0.5


def test_results_on_disk_are_a_mapping(tmp_path: Path) -> None:
    """What was put comes back, replaced and removed keys too, in order of keys."""
    results = RecordsOnDisk(tmp_path / "r.sqlite")
    expected = {f"search:e{n}": str(n).encode() for n in range(2_500)}
    results.update(expected)
    results["search:e7"] = expected["search:e7"] = b"new"
    del results["search:e8"], expected["search:e8"]
    assert dict(results) == expected
    assert list(results) == sorted(expected)
    assert "search:e8" not in results
    with pytest.raises(KeyError):
        del results["search:e8"]
    results.close()


async def test_a_pace_waits_for_event_time_and_tells_its_lag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At twice real time an event ten seconds later is due after five, and lag is measured."""
    clock = SimpleNamespace(now=100.0)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr("worker.replay.pace.asyncio.sleep", sleep)
    pace = Pace(2.0, lambda: clock.now)
    await pace.wait(50_000)
    await pace.wait(60_000)
    assert slept == [5.0]
    clock.now += 3
    await pace.wait(62_000)
    assert pace.behind_s == pytest.approx(2.0)


def test_the_page_asks_nothing_of_others_and_escapes_what_it_shows() -> None:
    """The report is one file without scripts or links, and a hostile name stays a name."""
    hostile = "<script>alert(1)</script>"
    empty = {"cases": 0, "segments": {}}
    document = {
        "order": "time",
        "command": f"shopstream replay --release {hostile}",
        "arms": [{"name": "a", "release": hostile, "described": hostile}],
        "verdict": [hostile],
        "recommendations": {
            **empty, "lists": 0, "window_s": 1.0, "lists_without_purchase_in_window": 0,
            "censored_at_the_end": 0, "closed_early": 0, "coverage": {"a": None}, "worst": {},
        },
        "search": {
            **empty, "searches": 0, "window_s": 1.0, "without_purchase_in_window": 0,
            "censored_at_the_end": 0, "zero_results": {},
        },
        "sentiment": {
            "cases": 0, "without_stars": 0, "untagged": 0, "metrics": {}, "calibration": {},
        },
        "answers": {**empty, "judged_by": hostile},
        "latency": {"edges_ms": [1.0, 2.0], "arms": {"a": {"p50_ms": 1.0, "histogram": [0, 1, 0]}}},
        "off_policy": {"supported": False, "why": hostile},
        "timeline": {},
        "protocol": {
            "judge_from_ms": 0, "first_ms": 0, "last_ms": 1, "stated": [hostile], "events": 1,
            "warm_up_events": 0, "judged_events": 1, "products": 0,
        },
        "recording": {
            "source": hostile, "created_at": "now", "records": {hostile: 1}, "offsets_missing": 0,
        },
        "results_digest": {"a": "0"}, "device": {"device": "cpu", "dtype": "float32"},
        "seconds": 1.0, "peak_resident_mb": 1.0,
        "faults": {"gap": {"count": 1, "places": [hostile], "meaning": "m"}},
    }  # fmt: skip
    page = render(document)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    for word in ("http://", "https://", " src=", " href=", "url("):
        assert word not in page
