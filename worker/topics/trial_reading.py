"""Reads a running A/B trial: when it began, and all that its shoppers did since."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime

from pydantic import ValidationError

from worker.errors import ShopstreamError
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind
from worker.pipeline.times import milliseconds
from worker.settings import Settings
from worker.store.redis_store import RedisStore
from worker.topics.layout import TopicLayout
from worker.topics.reader import read_topic
from worker.topics.release_announcements import ReleaseAnnouncement
from worker.topics.release_moves import read_pointer
from worker.topics.trial_outcomes import TrialOutcomes

_KINDS = (EventKind.SEARCH, EventKind.PURCHASE, EventKind.RETURN)


class NoTrial(ShopstreamError):
    """No A/B trial can be compared; the message says why and what to do."""


async def read_trial(
    settings: Settings,
    *,
    candidate: str | None = None,
    share: float | None = None,
    since: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[TrialOutcomes, str, float, datetime]:
    """Return what the shoppers did, the candidate, its share and when the trial began.

    The pointer and the topic of releases tell what is not given: give all three for a trial that
    is over. Raises NoTrial, KafkaUnavailable, StoreUnavailable, TopicsUnfit.
    """
    if candidate is None or share is None:
        pointer = await read_pointer(settings)
        if pointer is None or pointer.candidate is None:
            raise NoTrial(
                "no candidate is on trial: start one with `shopstream releases promote RELEASE "
                "--share 0.1`, or name one that is over with --candidate, --share and --since"
            )
        candidate, share = pointer.candidate, pointer.share
    began = since or await _began(settings, candidate)
    store = RedisStore.from_settings(settings)
    try:
        key = await store.privacy_key(settings)
    finally:
        await store.close()
    outcomes = TrialOutcomes(
        candidate,
        share,
        key=key.encode(),
        since_ms=milliseconds(began),
        window_s=settings.attribution_window_s,
    )
    await _read_events(settings, outcomes, progress)
    return outcomes, candidate, share, began


async def _began(settings: Settings, candidate: str) -> datetime:
    """Return when the trial of a candidate was first announced."""
    topic = TopicLayout.from_settings(settings).releases
    first: datetime | None = None
    async with aclosing(read_topic(settings, topic)) as records:
        async for record in records:
            if record.value is None:
                continue
            try:
                said = ReleaseAnnouncement.model_validate_json(record.value)
                at = datetime.fromisoformat(said.at).astimezone(UTC)
            except (ValidationError, ValueError):
                continue
            if said.action == "candidate" and said.release_id == candidate:
                first = min(first, at) if first is not None else at
    if first is None:
        raise NoTrial(f"the topic {topic} does not say when {candidate} was tried: give --since")
    return first


async def _read_events(
    settings: Settings, outcomes: TrialOutcomes, progress: Callable[[int, int], None] | None
) -> None:
    layout = TopicLayout.from_settings(settings)
    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    for kind in _KINDS:
        async with aclosing(read_topic(settings, layout.of(kind), progress)) as records:
            async for record in records:
                raw = RawRecord(
                    record.topic, record.partition, record.offset,
                    record.key, record.value, record.timestamp,
                )  # fmt: skip
                event = decode_event(kind, raw, limits)
                if not isinstance(event, InvalidEvent):
                    outcomes.add(event)
