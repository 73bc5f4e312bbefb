"""Why a result says what it says: its moment replayed, with history, candidates and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from models.product_index import ProductIndex
from models.recommendation.rules import RecommendationRules, recommend_within
from models.recommendation.shopper import Demand, Shopper
from worker.errors import ShopstreamError
from worker.events.decode import EventLimits, InvalidEvent
from worker.events.event import Event, Product, ProductRemoved, Question, Search
from worker.flow.assembly import recommendation_rules
from worker.pipeline.batch import Outcome
from worker.pipeline.causes import Cause, causes_of
from worker.pipeline.records import BatchRecord
from worker.pipeline.stages import GatheredArm, GatheredBatch, PipelineModels
from worker.pipeline.texts import tokenize
from worker.pipeline.vector_cache import TextKey
from worker.replay.following.follower import FollowedBatch, Follower
from worker.replay.following.order import BatchOrder
from worker.replay.judge.recommendations import history_line
from worker.replay.recordings.merge import RecordedEvent, decode_stored
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.settings import Settings
from worker.store.limits import StoreLimits
from worker.store.memory_store import MemoryStore

CANDIDATES = 30
Progress = Callable[[int, int], None]


class NotExplained(ShopstreamError):
    """The event or its batch is not in the recording; the message says what to do."""


@dataclass(slots=True)
class _Moment:
    """What stood when the event's batch was done."""

    record: BatchRecord
    gathered: GatheredBatch
    outcome: Outcome | None
    index: ProductIndex | None


async def explain(
    settings: Settings,
    recording: Recording,
    event_id: str,
    releases: Releases,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay up to the batch of an event and return what made its results.

    Raises NotExplained, ReplayStopped, ReleaseGone.
    """
    found = _find_event(recording, event_id, settings)
    if not recording.has_batches:
        raise NotExplained(
            "the recording holds no batch records, which say what each batch took: record the "
            "workers' own topics too (`shopstream record`)"
        )
    order = BatchOrder(recording)
    record = _find_batch(order, found)
    moment = await _replay_to(settings, recording, order, record, releases, progress)
    return _explanation(found, moment, recommendation_rules(settings))


def _find_event(recording: Recording, event_id: str, settings: Settings) -> RecordedEvent:
    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    wanted = event_id.encode()
    last: RecordedEvent | None = None
    for topic, number in recording.event_partitions():
        for stored in recording.log(topic, number).read(0):
            if stored.value is None or wanted not in stored.value:
                continue
            found = decode_stored(recording, topic, number, stored, limits)
            if not isinstance(found.event, InvalidEvent) and found.event.event_id == event_id:
                last = found
    if last is None:
        raise NotExplained(
            f"no event {event_id!r} is in the recording: check the id (results name it as "
            "event_id), or record a range that holds it"
        )
    return last


def _find_batch(order: BatchOrder, found: RecordedEvent) -> BatchRecord:
    """Return the last confirmed batch that took the event: its results stand."""
    topic, partition, offset = found.position
    last: BatchRecord | None = None
    for record in order:
        for run in record.runs:
            is_here = (run.topic, run.partition) == (topic, partition)
            if is_here and run.first <= offset <= run.last and (record.confirmed or last is None):
                last = record
    if last is None:
        raise NotExplained(
            f"no batch record names {topic}:{partition}:{offset}: no worker has finished it yet, or"
            " its record is older than Kafka keeps"
        )
    return last


async def _replay_to(
    settings: Settings,
    recording: Recording,
    order: BatchOrder,
    record: BatchRecord,
    releases: Releases,
    progress: Progress | None,
) -> _Moment:
    store = MemoryStore(StoreLimits.from_settings(settings))
    key = settings.privacy_key.get_secret_value() if settings.privacy_key else "replay"
    follower = Follower(recording, order, store, releases, settings, key)
    seen: list[_Moment] = []

    def done(batch: FollowedBatch) -> None:
        if batch.record.batch_id == record.batch_id:
            index = batch.index_of(batch.gathered.releases.trunk)
            seen.append(_Moment(batch.record, batch.gathered, batch.outcome, index))

    await follower.run(done, progress, until_sequence=record.sequence)
    if not seen:
        raise NotExplained(f"batch {record.batch_id} was not reached")
    return seen[-1]


def _explanation(
    found: RecordedEvent, moment: _Moment, rules: RecommendationRules
) -> dict[str, Any]:
    event = found.event
    assert not isinstance(event, InvalidEvent)
    record = moment.record
    arm = _arm_of(moment.gathered, found)
    explanation: dict[str, Any] = {
        "event": event.model_dump(mode="json"),
        "kind": event.kind.value,
        "position": found.position._asdict(),
        "batch": record.model_dump(),
        "release": arm.models.release if arm is not None else record.release,
        "arm": arm.arm if arm is not None else None,
        "results": _results(event, moment.outcome),
    }
    if not record.confirmed:
        explanation["note"] = "the batch was never confirmed: a crash may have kept its results"
    if arm is None:
        explanation["note"] = "the shopper was forgotten after this event: it made no result"
        return explanation
    if isinstance(event, Product | ProductRemoved):
        return explanation
    history = moment.gathered.view.histories.get(event.user_id, ())
    explanation["history"] = [history_line(one) for one in history]
    if moment.index is None:
        return explanation
    cause = causes_of(arm.live, arm.view.histories).get(event.user_id)
    if cause is not None and cause.version.event_id != event.event_id:
        explanation["list_made_for"] = cause.version.event_id
    explanation["candidates"] = _candidates(event, cause, arm, moment.index, rules)
    return explanation


def _arm_of(gathered: GatheredBatch, found: RecordedEvent) -> GatheredArm | None:
    for arm in gathered.arms:
        if any(item.taken.position == found.position for item in arm.live):
            return arm
    return None


def _results(event: Event, outcome: Outcome | None) -> list[dict[str, Any]]:
    """Return the results that the event caused, and its shopper's list."""
    results: list[dict[str, Any]] = []
    user_id = getattr(event, "user_id", None)
    for one in outcome.results if outcome is not None else ():
        value = orjson.loads(one.value)
        is_list = one.kind.value == "recommendations" and one.id == user_id
        if value["event_id"] == event.event_id or is_list:
            results.append({"kind": one.kind.value, "id": one.id, "value": value})
    return results


def _candidates(
    event: Any,
    cause: Cause | None,
    arm: GatheredArm,
    index: ProductIndex,
    rules: RecommendationRules,
) -> dict[str, list[dict[str, Any]]]:
    """Return what was ranked, further down than results go, with scores and reasons."""
    found: dict[str, list[dict[str, Any]]] = {}
    models, view = arm.models, arm.view
    if isinstance(event, Search):
        hits = index.search([event.query], _vectors(models, [event.query]), CANDIDATES)[0]
        found["search"] = [asdict(hit) for hit in hits]
    if cause is not None:
        history = view.histories.get(event.user_id, ())
        queries = [one.query for one in history if one.kind == "search" and one.query]
        queries = list(dict.fromkeys(queries))
        vectors = _vectors(models, queries)
        shopper = Shopper(
            event.user_id, cause.version.occurred_at_ms, history,
            dict(zip(queries, vectors, strict=True)), cause.locale,
        )  # fmt: skip
        demand = Demand(popular=view.popular, together=view.together)
        lists = recommend_within(rules, models.recommender, [shopper], demand, index, CANDIDATES)
        found["recommendations"] = [asdict(one) for one in lists[0]]
    if isinstance(event, Question):
        found["answer"] = _passages(event, arm)
    return found


def _passages(event: Question, arm: GatheredArm) -> list[dict[str, Any]]:
    """Return the passages the answerer chose among, nearest in meaning first."""
    passages = [
        one
        for row, found in arm.passages.items()
        for one in found
        if any(item.row == row and item.event.event_id == event.event_id for item in arm.live)
    ]
    if not passages:
        return []
    texts: list[TextKey] = [("passage", one.match_text) for one in passages]
    vectors = arm.models.trunk.encode(tokenize(arm.models.trunk, texts)).vectors
    cosines = vectors @ _vectors(arm.models, [event.text])[0]
    order = np.argsort(-cosines, kind="stable")[:CANDIDATES]
    return [
        {
            "kind": passages[row].kind,
            "id": passages[row].id,
            "text": passages[row].text,
            "cosine": round(float(cosines[row]), 6),
        }
        for row in order.tolist()
    ]


def _vectors(models: PipelineModels, queries: Sequence[str]) -> Any:
    tokens = models.trunk.tokenize(list(queries), "query")
    return models.trunk.encode(tokens).vectors


def why_lines(found: Mapping[str, Any]) -> list[str]:
    """Return an explanation for a terminal."""
    batch, place = found["batch"], found["position"]
    lines = [
        f"{found['kind']} {found['event']['event_id']} at {found['event']['occurred_at']}, "
        f"{place['topic']}:{place['partition']}:{place['offset']}",
        f"batch {batch['batch_id']} (step {batch['sequence']}, products at "
        f"{batch['index_position']}), release {found['release']}"
        + (f", arm {found['arm']}" if found["arm"] else ""),
    ]
    if "note" in found:
        lines.append(found["note"])
    if "list_made_for" in found:
        lines.append(f"the shopper's list was made for the newer {found['list_made_for']}")
    for step in found.get("history", [])[-12:]:
        said = step["query"] or ", ".join(step["products"])
        lines.append(f"  history: {step['kind']} {said}")
    for name, candidates in found.get("candidates", {}).items():
        for place_, one in enumerate(candidates[:10], 1):
            lines.append(f"  {name} {place_}: {_candidate_line(one)}")
    for result in found["results"]:
        lines.append(f"wrote {result['kind']}:{result['id']}")
    return lines


def _candidate_line(one: Mapping[str, Any]) -> str:
    if "cosine" in one:
        return f"{one['cosine']:.4f} {one['kind']} {one['id']}: {one['text'][:80]}"
    if "reason" in one:
        return f"{one['product_id']} {one['score']:.4f} {one['reason']['text']}"
    parts = [f"{one['product_id']} {one['score']:.4f}"]
    for side in ("lexical", "vector"):
        if one[side] is not None:
            parts.append(f"{side} {one[side]:.4f}")
    if one["terms"]:
        parts.append("words: " + ", ".join(one["terms"]))
    return " ".join(parts)
