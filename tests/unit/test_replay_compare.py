"""Comparing arms over the same events: nothing of the future, the same bytes, each arm as alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models.answerer import Answerer
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.text.null_encoder import NullEncoder
from models.text_encoder import Encodings, TextEncoder, Tokens
from tests.support.recordings import event_record, write_recording
from tests.support.tiny_trunk import write_tiny_trunk
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.decode import EventLimits
from worker.events.event import EventKind
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import PipelineModels
from worker.replay.comparing.arms import BadArm, PopularityRecommender, build_arms
from worker.replay.comparing.comparison import Comparison
from worker.replay.comparing.journal import Journal, JournalUnfit
from worker.replay.comparing.outcomes import ArmSpec, JudgedEvent
from worker.replay.comparing.state import EventTimeStore
from worker.replay.judge.judge import Judge
from worker.replay.prefetch import PrefetchingTrunk
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.merge import RecordedEvent, events_by_time
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases, prefetching
from worker.settings import Settings
from worker.store.contract import CountPurchase, StateStep, Version
from worker.store.limits import StoreLimits

OPTIONS = PipelineOptions("replay", b"key")
MINUTE_MS = 60_000


def models(recommender: Any = None) -> PipelineModels:
    recommender = recommender or SimilarityRecommender()
    return prefetching(PipelineModels(NullEncoder(width=32), recommender, Answerer(0.5)))


def arm(name: str = "a", recommender: Any = None) -> ArmSpec:
    return ArmSpec(name, models(recommender), OPTIONS)


def read(folder: Path) -> list[RecordedEvent]:
    return list(events_by_time(Recording.open(folder, Faults()), EventLimits()))


def simulated(folder: Path, count: int = 150) -> list[RecordedEvent]:
    shop = SimulatedShop(seed=3, product_count=40, shopper_count=12)
    events = [*shop.catalogue()]
    stream = shop.events(rate=0.1)
    events += [next(stream) for _ in range(count)]
    records = [
        (one.kind, one.key, one.value, int(one.occurred_at.timestamp() * 1000)) for one in events
    ]
    return read(write_recording(folder, records, partitions=2))


async def results(
    arms: Sequence[ArmSpec], events: Sequence[RecordedEvent], from_ms: int = -1
) -> dict[str, list[tuple[str, bytes]]]:
    """Return arm -> (key, value) of all results in order."""
    found: dict[str, list[tuple[str, bytes]]] = {one.name: [] for one in arms}

    def judge(batch: Sequence[JudgedEvent]) -> None:
        for name, made in batch[0].outcomes.items():
            found[name] += [(f"{r.kind}:{r.id}", r.value) for r in made.outcome.results]

    await Comparison(arms, EventTimeStore()).run(events, judge, from_ms=from_ms)
    return found


async def test_a_planted_future_event_changes_nothing_before_it(tmp_path: Path) -> None:
    """With a purchase of everything planted late in the log, earlier results keep their bytes."""
    events = simulated(tmp_path / "r")
    at_ms = events[-40].at_ms
    before = [one for one in events if one.at_ms < at_ms]
    buyer = next(one.event.user_id for one in before if hasattr(one.event, "user_id"))
    items = [{"product_id": f"p{1000 + n}", "quantity": 99} for n in range(40)]
    fields = {"user_id": buyer, "order_id": "o", "items": items}
    planted_in = write_recording(
        tmp_path / "planted", [event_record(EventKind.PURCHASE, at_ms, fields)]
    )
    planted = read(planted_in)
    without = await results([arm()], before)
    with_it = await results([arm()], [*before, *planted, *events[len(before) :]])
    assert without["a"] == with_it["a"][: len(without["a"])]
    assert with_it["a"][len(without["a"]) :]
    later = await results([arm()], events)
    assert later["a"] != with_it["a"]  # the planted event is felt once it has happened


async def test_twice_the_same_bytes_and_each_arm_as_alone(tmp_path: Path) -> None:
    """A replay reproduces itself, and an arm says beside others what it says alone."""
    events = simulated(tmp_path / "r")
    alone = await results([arm("a")], events)
    both = await results([arm("a"), arm("b", PopularityRecommender())], events)
    assert both["a"] == alone["a"] == (await results([arm("a")], events))["a"]
    assert both["b"] == (await results([arm("b", PopularityRecommender())], events))["b"]
    assert both["a"] != both["b"]


async def test_the_warm_up_counts_and_is_not_judged(tmp_path: Path) -> None:
    """Results after a warm-up are those of a run that judged everything."""
    events = simulated(tmp_path / "r")
    from_ms = events[len(events) // 2].at_ms
    whole = await results([arm()], events)
    tail = await results([arm()], events, from_ms)
    assert [value for _, value in tail["a"]]
    # Batch and step are numbered in each result; all else must be the same.
    judged = [_without_numbers(value) for _, value in tail["a"]]
    plain = [_without_numbers(one) for _, one in whole["a"] if _written_at(one) >= from_ms]
    assert sorted(judged) == sorted(plain)


def _written_at(value: bytes) -> int:
    """Return when a result was written, in ms: replays in the order of time use the event's."""
    moment = datetime.fromisoformat(orjson.loads(value)["written_at"])
    return round(moment.timestamp() * 1000)


def _without_numbers(value: bytes) -> bytes:
    return re.sub(rb'"(batch_id":"replay-|step":)\d+', rb'"\1', value)


def test_texts_encoded_ahead_have_the_same_bits(tmp_path: Path) -> None:
    """A real trunk gives a text the same vector in a full pass and in a batch of its own."""
    trunk = TextEncoder.load(write_tiny_trunk(tmp_path / "trunk"), device="cpu")
    ahead = PrefetchingTrunk(trunk)
    texts = ["red shoe", "a good blue shoe that broke after one day", "cheap"]
    tokens = trunk.tokenize(texts, "query")
    ahead.prefetch(tokens, {})
    for one in tokens:
        alone = trunk.encode([one]).vectors
        assert np.array_equal(alone, ahead.encode([one]).vectors)


async def test_guards_against_double_counting_end_by_event_time() -> None:
    """A repeat counts once within the guard's life, and the guards of older events are dropped."""
    store = EventTimeStore(StoreLimits(guard_ttl_s=80))

    async def buy(event_id: str, at_ms: int) -> dict[str, float]:
        step = StateStep([CountPurchase("u", Version(at_ms, event_id), {"p": 1})], popular_count=5)
        return dict((await store.apply(step)).popular)

    first = await buy("e1", 1_000)
    assert await buy("e1", 1_000) == first
    for number in range(200):
        await buy(f"x{number}", 1_000 + number * 1_000)
    assert sum(len(guards) for guards in store._guards.values()) < 110


async def test_labels_wait_for_their_window_and_the_end_is_censored(tmp_path: Path) -> None:
    """A list is judged by what follows in its window; what reaches beyond the log is counted."""
    product = {"title": "green tea", "category": "tea"}
    events = [
        event_record(EventKind.PRODUCT, 0, {"product_id": f"p{n}", **product}) for n in range(3)
    ]

    def buy(user: str, minute: float, product_id: str) -> None:
        fields = {"user_id": user, "order_id": f"o{minute}", "items": [{"product_id": product_id}]}
        events.append(event_record(EventKind.PURCHASE, round(minute * MINUTE_MS), fields))

    def search(user: str, minute: float) -> None:
        fields = {"user_id": user, "query": "green tea"}
        events.append(event_record(EventKind.SEARCH, round(minute * MINUTE_MS), fields))

    search("a", 1)
    buy("a", 5, "p0")  # within 10 minutes of the search
    search("b", 6)
    buy("b", 18, "p1")  # too late for the search at 6
    fields = {"user_id": "a", "order_id": "o5", "items": [{"product_id": "p0"}]}
    search("c", 20)
    buy("c", 21, "p2")
    fields = {"user_id": "c", "order_id": "o21", "items": [{"product_id": "p2"}]}
    events.append(event_record(EventKind.RETURN, 22 * MINUTE_MS, fields))  # takes the label back
    search("d", 40)
    search("e", 45)  # its window reaches beyond the end
    judge = Judge(["a"], 10, 10 * MINUTE_MS)
    comparison = Comparison([arm()], EventTimeStore())
    ordered = read(write_recording(tmp_path / "r", sorted(events, key=lambda one: one[3])))
    report = await comparison.run(ordered, judge.see_all)
    found = judge.finish(report.last_ms, 3)
    recommendations, searched = found["recommendations"], found["search"]
    assert recommendations["cases"] == 1
    assert recommendations["censored_at_the_end"] == 2
    assert recommendations["segments"]["all"]["hr@10"]["a"]["value"] == 1.0
    assert "shopper: new" in recommendations["segments"]
    assert "category: tea" in recommendations["segments"]
    assert searched["searches"] == 5
    assert searched["cases"] == 1
    assert searched["censored_at_the_end"] == 2
    assert "nothing to compare" in found["verdict"][0]


def test_arms_are_named_or_refused() -> None:
    """Baselines and variants become arms; a doubled name or an unknown setting is told."""
    settings = Settings(model="null")
    releases = Releases(settings)
    arms = build_arms(
        settings, releases, ["current", "popularity", "mine=content"],
        ["sure:answer_threshold=0.9", "few:recommendation_count=3"], "key", 60.0,
    )  # fmt: skip
    assert [one.name for one in arms] == ["current", "popularity", "mine", "sure", "few"]
    assert len({one.models.release for one in arms}) == 5
    assert arms[4].options.recommendation_count == 3
    assert len({id(one.models.trunk) for one in arms}) == 1
    for named, variants, words in (
        (["current", "current"], [], "two arms"),
        ([], ["x:no_such=1"], "no_such"),
        ([], ["x:answer_threshold=7"], "less than or equal"),
        ([], ["nonsense"], "NAME:setting"),
    ):
        with pytest.raises(BadArm, match=words):
            build_arms(settings, releases, named, variants, "key", 60.0)


def test_models_may_be_prefetched_once_only() -> None:
    """Wrapping twice wraps once, so arms share one trunk."""
    once = models()
    assert prefetching(once) is once
    assert replace(once, release="x").trunk is once.trunk


async def test_a_replay_cut_short_goes_on_from_its_journal(tmp_path: Path) -> None:
    """Resumed, also after a torn write, it gives the same bytes and asks no model twice."""
    events = simulated(tmp_path / "r", 80)
    whole: list[bytes] = []
    path = tmp_path / "journal"

    def judge_into(values: list[bytes]) -> Callable[[Sequence[JudgedEvent]], None]:
        return lambda batch: values.extend(
            one.value for one in batch[0].outcomes["a"].outcome.results
        )

    fresh = CountingTrunk()
    spec = ArmSpec("a", replace(arm().models, trunk=fresh), OPTIONS)
    await Comparison([spec], EventTimeStore()).run(events, judge_into(whole))
    journal = Journal(path, "print")
    cut: list[bytes] = []
    await Comparison([arm()], EventTimeStore(), journal=journal).run(events[:90], judge_into(cut))
    journal.close()
    assert cut[:100] == whole[:100]
    assert set(cut) <= set(whole)  # within the batch that was cut the order may differ
    with path.open("ab") as file:
        file.write(b"\xff\xff\x00\x00torn")
    counting = CountingTrunk()
    models_again = replace(arm().models, trunk=counting)
    journal = Journal(path, "print")
    again: list[bytes] = []
    spec = ArmSpec("a", models_again, OPTIONS)
    await Comparison([spec], EventTimeStore(), journal=journal).run(events, judge_into(again))
    journal.close()
    assert again == whole
    assert 0 < counting.texts < fresh.texts
    done = Journal(path, "print")
    finished: list[bytes] = []
    await Comparison([arm()], EventTimeStore(), journal=done).run(events, judge_into(finished))
    done.close()
    assert finished == whole
    with pytest.raises(JournalUnfit, match="other events"):
        Journal(path, "another")


class CountingTrunk(NullEncoder):
    """Counts the texts it encodes."""

    def __init__(self) -> None:
        super().__init__(width=32)
        self.texts = 0

    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        self.texts += len(tokens)
        return super().encode(tokens, head_rows)
