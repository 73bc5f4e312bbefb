"""What a replay reads and where it keeps its state: recordings, topics, files, memory or Redis."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.errors import ShopstreamError
from worker.events.decode import EventLimits
from worker.events.event import EventKind
from worker.replay.following.verify import live_privacy_key
from worker.replay.recordings.faults import Faults, OnError
from worker.replay.recordings.merge import decode_stored
from worker.replay.recordings.public import EventFile, import_files
from worker.replay.recordings.record import RecordRange, record
from worker.replay.recordings.recording import Recording, result_settings
from worker.settings import Settings
from worker.store.redis_store import RedisStore

Order = Literal["auto", "batches", "time"]
Progress = Callable[[int, int], None]
NO_KEY = "replay"  # hides user ids where the live key is unknown: samples then differ
_EDGE_RECORDS = 100
_SHORT_LOG_PARTS = 10  # of a log shorter than ten attribution windows, the window is a tenth


class BadReplay(ShopstreamError):
    """What was asked for does not fit together; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """What to replay, and how."""

    events: Path | None = None
    from_topic: bool = False
    files: Sequence[EventFile] = ()
    topic_range: RecordRange | None = None
    keep: Path | None = None
    releases: Sequence[str] = ()
    variants: Sequence[str] = ()
    order: Order = "auto"
    speed: float = 0.0
    judge_from_ms: int | None = None
    until_ms: int | None = None
    warm_up_share: float = 0.2
    window_s: float | None = None
    k: int = 10
    verify: bool = False
    redis_prefix: str | None = None
    journal: Path | None = None
    on_error: OnError = "stop"
    command: str = ""


@contextmanager
def recording_folder(job: ReplayJob) -> Iterator[Path]:
    """Yield the folder of the recording that a replay makes for itself."""
    if job.keep is not None:
        yield job.keep
        return
    with tempfile.TemporaryDirectory(prefix="shopstream-replay-") as folder:
        yield Path(folder) / "recording"


async def open_recording(
    settings: Settings, job: ReplayJob, folder: Path, faults: Faults, progress: Progress | None
) -> Recording:
    """Return what the job names, opened. Raises BadReplay, NoRecording, KafkaUnavailable."""
    sources = [job.events is not None, job.from_topic, bool(job.files)]
    if sum(sources) != 1:
        raise BadReplay("name one source: --events DIR, --from-topic, or --file KIND=FILE")
    if job.events is not None:
        return Recording.open(job.events, faults)
    if job.from_topic:
        await record(settings, folder, chosen=job.topic_range, progress=progress)
    else:
        import_files(settings, job.files, folder, faults, progress)
    return Recording.open(folder, faults)


def note_settings(settings: Settings, recording: Recording) -> None:
    """Count the settings that differ from those the recording was made with."""
    now = result_settings(settings)
    for name, before in recording.facts.settings.items():
        if name in now and now[name] != before:
            place = f"{name} was {before!r}, is {now[name]!r}"
            recording.faults.note("other-settings", place)


def recording_json(recording: Recording) -> dict[str, Any]:
    """Return what the document says of a recording."""
    facts = recording.facts
    return {
        "source": facts.source,
        "created_at": facts.created_at,
        "records": {
            topic: sum(one.records for one in partitions.values())
            for topic, partitions in facts.topics.items()
        },
        "offsets_missing": facts.offsets_missing,
        "gaps": [gap.model_dump() for gap in facts.gaps[:20]],
    }


def event_span(recording: Recording, settings: Settings) -> tuple[int, int]:
    """Return when shoppers' first and last events happened, as the partitions' edges tell it."""
    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    times: list[int] = []
    for topic, number in recording.event_partitions():
        if recording.layout.kind_of(topic) is EventKind.PRODUCT:
            continue
        facts = recording.facts.topics[topic][str(number)]
        log = recording.log(topic, number)
        for first in (facts.first, max(facts.first, facts.next - _EDGE_RECORDS)):
            for stored in log.read(first, first + _EDGE_RECORDS):
                found = decode_stored(recording, topic, number, stored, limits)
                if found.is_valid:
                    times.append(found.at_ms)
    return min(times, default=0), max(times, default=0)


def judged_span(settings: Settings, job: ReplayJob, recording: Recording) -> tuple[float, int]:
    """Return how many seconds labels are waited for, and when judging begins (ms since 1970)."""
    first_ms, last_ms = event_span(recording, settings)
    window_s = job.window_s or min(
        settings.attribution_window_s, max(1.0, (last_ms - first_ms) / 1000 / _SHORT_LOG_PARTS)
    )
    from_ms = job.judge_from_ms
    if from_ms is None:
        from_ms = first_ms + round((last_ms - first_ms) * job.warm_up_share)
    return window_s, from_ms


async def redis_store(settings: Settings, prefix: str) -> RedisStore:
    """Return a store under a prefix of its own. Raises BadReplay, StoreUnavailable."""
    if prefix == settings.redis_key_prefix:
        raise BadReplay(
            f"--redis-prefix {prefix} is the live workers' own: choose another, it will be filled"
        )
    store = RedisStore.from_settings(settings.model_copy(update={"redis_key_prefix": prefix}))
    await store.open()
    if await store.steps_done():
        await store.close()
        raise BadReplay(
            f"--redis-prefix {prefix} holds the state of an earlier replay, which knows what is to "
            "come: choose another prefix, or delete its keys"
        )
    return store


async def privacy_key_of(settings: Settings, job: ReplayJob) -> tuple[str, bool]:
    """Return the key that hides user ids in samples, and whether it is the live one."""
    if settings.privacy_key is not None:
        return settings.privacy_key.get_secret_value(), True
    if not job.verify:
        return NO_KEY, False
    key = await live_privacy_key(settings)
    return (key, True) if key is not None else (NO_KEY, False)
