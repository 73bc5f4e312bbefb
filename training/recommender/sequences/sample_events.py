"""Shoppers' events from exported next-item samples: each shopper's overlapping histories joined.

A sample is one purchase with what came before it, so the samples of a shopper repeat each other;
an event is taken once. A purchase that was sent back is read but not learnt as a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from models.learnt.history_batch import EVENT_KINDS, UNKNOWN_ITEM
from models.sample import HistoryItem, NextItemSample
from training.dataset import Row, SampleFolder, SampleReport
from training.recommender.sequences.event_sequences import EventSequences, UnfitTrainingData

Key = tuple[int, str, str | None, tuple[str, ...]]  # time, kind, query, products


@dataclass(slots=True)
class SampleEvents:
    """What the samples hold: events by shopper, and a report of what was left out."""

    report: SampleReport
    shoppers: dict[str, dict[Key, HistoryItem]] = field(default_factory=dict)


def read_sample_events(folder: Path) -> SampleEvents:
    """Read the next-item samples of an export; raises UnreadableData where there are none."""
    samples = SampleFolder(folder, "next-item")
    return gather_events(samples.rows(), samples.report)


def gather_events(rows: Iterable[Row], report: SampleReport) -> SampleEvents:
    """Join the events of next-item rows by shopper; what is no sample is told in `report`."""
    found = SampleEvents(report)
    for row in rows:
        try:
            sample = NextItemSample.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            field_name = ".".join(str(part) for part in first["loc"])
            found.report.skip(f"{field_name}: {first['msg']}", str(row.get("sample_id")))
            continue
        moment = datetime.fromisoformat(sample.occurred_at)  # the folder's survey has read it
        bought = HistoryItem(
            kind="purchase",
            occurred_at_ms=round(moment.timestamp() * 1000),
            product_ids=sample.next_products,
        )
        events = found.shoppers.setdefault(sample.user, {})
        for event in (*sample.history, bought):
            _add(events, event)
    return found


def _add(events: dict[Key, HistoryItem], event: HistoryItem) -> None:
    """Take an event once; a purchase that lacks returned lines joins the whole one."""
    products = () if event.kind == "purchase" else tuple(event.product_ids)
    key = (event.occurred_at_ms, event.kind, event.query, products)
    known = events.get(key)
    if known is not None and len(known.product_ids) >= len(event.product_ids):
        return
    events[key] = event


def to_sequences(found: SampleEvents) -> tuple[EventSequences, list[str]]:
    """Return the events as rows, a purchase of several products as one each, and the Q queries.

    Raises UnfitTrainingData where nothing was bought.
    """
    items: dict[str, int] = {}
    queries: dict[str, int] = {}
    rows: list[
        tuple[int, int, int, float]
    ] = []  # time in ms, kind, input (queries below -1), stars
    labels: list[bool] = []
    offsets = [0]
    for events in found.shoppers.values():
        ordered = sorted(events.values(), key=lambda event: event.occurred_at_ms)
        returned = _returned(ordered)
        for event in ordered:
            kind = EVENT_KINDS.index(event.kind)
            if event.query is not None:
                query = queries.setdefault(event.query, len(queries))
                rows.append((event.occurred_at_ms, kind, -2 - query, 0.0))
                labels.append(False)
            for product in event.product_ids:
                item = items.setdefault(product, len(items))
                rows.append((event.occurred_at_ms, kind, item, event.stars or 0.0))
                kept = event.occurred_at_ms >= returned.get(product, event.occurred_at_ms)
                labels.append(event.kind == "purchase" and kept)
            if event.query is None and not event.product_ids:
                rows.append((event.occurred_at_ms, kind, UNKNOWN_ITEM, event.stars or 0.0))
                labels.append(False)
        offsets.append(len(rows))
    if not any(labels):
        raise UnfitTrainingData("the samples hold no purchase that was kept: nothing to learn")
    return _sequences(rows, labels, offsets, list(items)), list(queries)


def _returned(events: Sequence[HistoryItem]) -> dict[str, int]:
    """Return for each product when it was last sent back."""
    return {
        product: event.occurred_at_ms
        for event in events
        if event.kind == "return"
        for product in event.product_ids
    }


def _sequences(
    rows: list[tuple[int, int, int, float]],
    labels: list[bool],
    offsets: list[int],
    item_ids: list[str],
) -> EventSequences:
    times_ms, kinds, inputs = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    gaps = np.zeros(len(rows), dtype=np.float32)
    gaps[1:] = np.diff(times_ms) / 1000
    gaps[np.array(offsets[:-1])] = 0
    return EventSequences(
        item_ids=item_ids,
        offsets=np.array(offsets, dtype=np.int64),
        inputs=np.where(inputs < UNKNOWN_ITEM, len(item_ids) - 2 - inputs, inputs),
        kinds=kinds,
        gaps_s=gaps,
        stars=np.clip([row[3] for row in rows], 0, 5).astype(np.float32),
        is_label=np.array(labels, dtype=bool),
        times_s=times_ms / 1000,
    )
