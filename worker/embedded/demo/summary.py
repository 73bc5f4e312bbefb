"""Puts the demo's figures together: a snapshot for the view, and the report at the end."""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Sequence
from typing import Any

from worker.embedded.demo.ledger import Ledger, percentile
from worker.embedded.demo.loop.view import LOOP_FIELDS, LoopView
from worker.embedded.demo.observer import Observer
from worker.embedded.demo.showcase import Showcase
from worker.events.event import EventKind
from worker.page.live_figures import KindFigures, LiveFigures

RATE_WINDOW_S = 3.0
TREND_S = 60
REASON_LENGTH = 80
SCORE_NAMES = {
    "answer_right": "answers from the right place",
    "search_first_fits": "first search result fits",
    "sentiment_right": "tags as their writers meant",
    "taste_percentile": "taste rank of recommendations",
}


class Summary:
    """Reads ledger, showcase and observer; the live part begins with `begin_live`."""

    def __init__(
        self,
        ledger: Ledger,
        showcase: Showcase,
        observer: Observer,
        *,
        heading: str,
        places: Sequence[str],
        notes: Sequence[str] = (),
        loop: LoopView | None = None,
    ) -> None:
        self._ledger = ledger
        self._showcase = showcase
        self._observer = observer
        self._heading = heading
        self._places = places
        self._notes = notes
        self._loop = loop
        self._begun_s: float | None = None
        self._ended_s: float | None = None
        self._sent_before = 0
        self._counts: deque[tuple[float, int]] = deque()
        self._events_trend: deque[float] = deque(maxlen=TREND_S)
        self._p99_trend: deque[float] = deque(maxlen=TREND_S)
        self._trend_s = 0.0

    def begin_live(self, now_s: float) -> None:
        """Leave the catalogue out of rates and batches from here on."""
        self._begun_s = self._trend_s = now_s
        self._sent_before = self._ledger.sent.total()
        self._counts.append((now_s, self._sent_before))
        self._observer.forget_batches()

    def end_live(self, now_s: float) -> None:
        """Note that no more is sent."""
        self._ended_s = now_s

    def figures(self, now_s: float, limit_s: float | None) -> LiveFigures:
        """Return a snapshot."""
        events_per_s = self._note_rate(now_s)
        recent = self._ledger.recent_ms
        observer = self._observer
        batches = observer.recent_batches
        return LiveFigures(
            heading=self._heading,
            places=self._places,
            elapsed_s=self._live_s(now_s),
            limit_s=limit_s,
            events_per_s=events_per_s,
            events_trend=tuple(self._events_trend),
            p50_ms=percentile(recent, 0.5),
            p99_ms=percentile(recent, 0.99),
            p99_trend_ms=tuple(self._p99_trend),
            events_per_batch=sum(batches) / len(batches) if batches else None,
            largest_batch=observer.largest_batch,
            batches=observer.batch_count,
            waiting=self._ledger.open_count,
            kinds=[self._kind(kind) for kind in EventKind],
            samples=dict(observer.samples),
            dead_letters=dict(self._ledger.dead_letters),
            last_dead_letter=textwrap.shorten(
                observer.last_dead_letter, REASON_LENGTH, placeholder=" …"
            ),
            scores={SCORE_NAMES[name]: share for name, share in self._showcase.scores().items()},
            recommendations=tuple(self._showcase.recommendations),
            searches=tuple(self._showcase.searches),
            reviews=tuple(self._showcase.reviews),
            answers=tuple(self._showcase.answers),
            notes=self._notes,
            loop=self._loop.figures() if self._loop is not None else None,
        )

    def report(self, now_s: float) -> dict[str, Any]:
        """Return the report: counts by kind, latencies in ms, batches, samples, scores."""
        ledger, observer = self._ledger, self._observer
        latencies = ledger.latencies_ms()
        live_s = self._live_s(now_s)
        sent_live = ledger.sent.total() - self._sent_before
        return {
            "sent": {kind.value: ledger.sent[kind] for kind in EventKind},
            "answered": {kind.value: ledger.answered[kind] for kind in EventKind},
            "dead_letters": ledger.dead_count,
            "dead_letters_by_code": dict(sorted(ledger.dead_letters.items())),
            "lost": ledger.open_count,
            "p50_ms": _rounded(percentile(latencies, 0.5)),
            "p99_ms": _rounded(percentile(latencies, 0.99)),
            "max_ms": _rounded(max(latencies, default=None)),
            "latency_ms": {
                kind.value: {"p50": _rounded(one.p50_ms), "p99": _rounded(one.p99_ms)}
                for kind in EventKind
                if (one := self._kind(kind)).p50_ms is not None
            },
            "live_s": round(live_s, 1),
            "events_per_s": round(sent_live / live_s, 1) if live_s > 0 else None,
            "batches": observer.batch_count,
            "events_per_batch": round(observer.batch_events / observer.batch_count, 2)
            if observer.batch_count
            else None,
            "largest_batch": observer.largest_batch,
            "samples": dict(sorted(observer.samples.items())),
            "scores": self._showcase.scores(),
            "release": observer.release,
        } | (self._loop.report() if self._loop is not None else dict.fromkeys(LOOP_FIELDS))

    def _kind(self, kind: EventKind) -> KindFigures:
        latencies = self._ledger.latencies_ms([kind])
        return KindFigures(
            kind.value,
            self._ledger.sent[kind],
            self._ledger.answered[kind],
            percentile(latencies, 0.5),
            percentile(latencies, 0.99),
        )

    def _live_s(self, now_s: float) -> float:
        if self._begun_s is None:
            return 0.0
        return (self._ended_s or now_s) - self._begun_s

    def _note_rate(self, now_s: float) -> float:
        """Return events per second over the last seconds; once a second, note the trends."""
        if self._begun_s is None:
            return 0.0
        self._counts.append((now_s, self._ledger.sent.total()))
        while len(self._counts) > 2 and now_s - self._counts[0][0] > RATE_WINDOW_S:
            self._counts.popleft()
        (first_s, first), (last_s, last) = self._counts[0], self._counts[-1]
        rate = (last - first) / (last_s - first_s) if last_s > first_s else 0.0
        if self._ended_s is not None:  # nothing is sent any more: the rate of the whole
            return (last - self._sent_before) / max(self._live_s(now_s), 1e-9)
        if now_s - self._trend_s >= 1.0:
            self._trend_s = now_s
            self._events_trend.append(rate)
            self._p99_trend.append(percentile(self._ledger.recent_ms, 0.99) or 0.0)
        return rate


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
