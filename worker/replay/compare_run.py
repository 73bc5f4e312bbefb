"""Releases or settings over the same events in the order of time: the document."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from worker.events.decode import EventLimits
from worker.replay.comparing.arms import CURRENT, build_arms
from worker.replay.comparing.comparison import CompareReport, Comparison
from worker.replay.comparing.journal import Journal, fingerprint
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.comparing.state import EventTimeStore
from worker.replay.judge.judge import BIAS, INTERVALS, Judge, labels_stated
from worker.replay.pace import Pace
from worker.replay.recordings.merge import events_by_time
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.replay.sources import (
    Progress,
    ReplayJob,
    judged_span,
    privacy_key_of,
    redis_store,
)
from worker.settings import Settings
from worker.store.contract import StateStore
from worker.store.limits import StoreLimits


async def compare(
    settings: Settings, job: ReplayJob, recording: Recording, progress: Progress | None
) -> dict[str, Any]:
    """Compare, and return the document's part. Raises ShopstreamErrors that say what to do."""
    releases = Releases(settings)
    window_s, from_ms = judged_span(settings, job, recording)
    key, _ = await privacy_key_of(settings, job)
    arms = build_arms(settings, releases, job.releases or [CURRENT], job.variants, key, window_s)
    store: StateStore = EventTimeStore(StoreLimits.from_settings(settings))
    if job.redis_prefix is not None:
        store = await redis_store(settings, job.redis_prefix)
    pace = Pace(job.speed)
    journal = None
    if job.journal is not None:
        order = "time, one by one" if pace.keeps_time else "time"
        journal = Journal(job.journal, fingerprint(order, arms, recording, from_ms, settings))
    keeps_results = job.redis_prefix is not None
    comparison = Comparison(arms, store, pace, keeps_results, journal)
    judge = Judge([arm.name for arm in arms], job.k, round(window_s * 1000))
    digests = {arm.name: hashlib.blake2b(digest_size=16) for arm in arms}

    def see(batch: Sequence[JudgedEvent]) -> None:
        for name, made in batch[0].outcomes.items():
            for one in made.outcome.results:
                digests[name].update(one.value)
        judge.see_all(batch)

    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    events = events_by_time(recording, limits)
    if job.until_ms is not None:
        until_ms = job.until_ms
        events = takewhile(lambda one: one.at_ms < until_ms, events)
    total = recording.event_count
    try:
        report = await comparison.run(
            events,
            see,
            from_ms=from_ms,
            progress=None if progress is None else lambda done: progress(done, total),
        )
    finally:
        await store.close()
        if journal is not None:
            journal.close()
    return {
        "arms": [arm.as_json() for arm in arms],
        "device": {"device": releases.device, "dtype": releases.dtype},
        "protocol": _protocol(report, window_s, from_ms, job),
        "results_digest": {name: one.hexdigest() for name, one in digests.items()},
        "behind_pace_s": round(pace.behind_s, 3),
        **judge.finish(report.last_ms, report.products),
    }


def _protocol(
    report: CompareReport, window_s: float, from_ms: int, job: ReplayJob
) -> dict[str, Any]:
    return {
        **asdict(report),
        "seconds": round(report.seconds, 3),
        "judged_seconds": round(report.judged_seconds, 3),
        "events_per_s": round(report.events / report.seconds, 1) if report.seconds else None,
        "window_s": round(window_s, 3),
        "judge_from_ms": from_ms,
        "until_ms": job.until_ms,
        "k": job.k,
        "stated": [
            "Events were replayed one at a time in the order in which they happened; at each one "
            "only earlier events were known.",
            "Events before the judged span warmed histories, popularity and the catalogue, and "
            "were not judged.",
            labels_stated(window_s),
            BIAS,
            INTERVALS,
        ],
    }
