"""A replay's document in a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def summary_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person wants to know first."""
    if document["order"] == "batches":
        yield from _followed(document)
    else:
        yield from _compared(document)
    for kind, fault in document["faults"].items():
        first = fault["places"][0] if fault["places"] else ""
        yield f"{kind}: {fault['count']:,} (first: {first}): {fault['meaning']}"


def estimate_text(cell: Mapping[str, Any]) -> str:
    """Return a figure with its interval."""
    if cell["value"] is None:
        return "-"
    if cell["low"] is None:
        return f"{cell['value']:.4f}"
    return f"{cell['value']:.4f} [{cell['low']:.4f}, {cell['high']:.4f}]"


def difference_text(found: Mapping[str, Any]) -> str:
    """Return how much results or samples differ."""
    overlap = found["mean_overlap"]
    mean, most = found["mean_score_difference"], found["max_score_difference"]
    shared = "" if overlap is None else f"; lists share {100 * overlap:.1f} % of their products"
    return (
        f"{found['different']:,} different (of these {found['same_items']:,} say the same with "
        f"other numbers, {found['reordered']:,} hold the same products in another order, "
        f"{found['other_items']:,} say something else{shared}; {found['scores']:,} scores lie "
        f"{mean:.2g} apart on average, {most:.2g} at most)"
    )


def _followed(document: Mapping[str, Any]) -> Iterator[str]:
    replayed = document["replayed"]
    rate = replayed["events"] / document["seconds"] if document["seconds"] else 0.0
    yield (
        f"{replayed['events']:,} events in {replayed['batches']:,} batches "
        f"({replayed['unconfirmed']:,} unconfirmed) replayed in the live order, {rate:,.0f}/s; "
        f"{replayed['results']:,} results, digest {document['results_digest']['live']}"
    )
    yield from equality_lines(document)
    if len(document["arms"]) > 1:
        yield from document["verdict"]
    yield from _figures(document)


def equality_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `--verify` found; nothing where it was not asked for."""
    for what, found in document.get("equality", {}).items():
        if found["is_equal"]:
            yield f"{what}: all {found['equal']:,} equal the live ones byte for byte"
        else:
            yield (
                f"{what}: {found['equal']:,} equal, {difference_text(found)}, "
                f"{found['only_live']:,} only live"
            )
        if found["only_replay"]:
            yield f"{what}: {found['only_replay']:,} stand only in the replay (expired live?)"


def _compared(document: Mapping[str, Any]) -> Iterator[str]:
    protocol = document["protocol"]
    yield (
        f"{protocol['events']:,} events ({protocol['warm_up_events']:,} to warm up, "
        f"{protocol['judged_events']:,} judged), {protocol['events_per_s'] or 0:,.0f}/s"
    )
    yield from document["verdict"]
    yield from _figures(document)


def _figures(document: Mapping[str, Any]) -> Iterator[str]:
    for task in ("recommendations", "search"):
        found = document[task]
        for metric, arms in found["segments"].get("all", {}).items():
            for arm, cell in arms.items():
                yield f"{task}\t{metric}\t{arm}\t{estimate_text(cell)}\tn={cell['cases']:,}"
    for metric, arms in document["sentiment"]["metrics"].items():
        for arm, cell in arms.items():
            yield f"sentiment\t{metric}\t{arm}\t{estimate_text(cell)}\tn={cell['cases']:,}"
    off_policy = document["off_policy"]
    if not off_policy["supported"]:
        yield f"off-policy estimates: not supported by this log ({off_policy['why']})"
