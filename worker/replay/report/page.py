"""The report's page: what the template shows, prepared from the document."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from worker.replay.report import plots
from worker.replay.report.summary import difference_text, equality_lines, summary_lines

_TIMELINES = {
    "recommendations": "nDCG of recommendations",
    "search": "nDCG of search",
    "sentiment": "accuracy of sentiment tags",
    "zero_results": "searches without results",
}
_MAX_ROWS = 24
_LABEL_CHARS = 24
_MAX_PLOTTED = 16  # segments of a plot
_LEAST_CASES = 5  # below that an interval says nothing
_LESS_IS_BETTER = frozenset({"calibration_error", "zero_result_rate"})
_NEITHER = frozenset({"novelty_bits", "answered", "confidence", "same_as_baseline"})


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Write the page, whole or not at all; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(render(document), encoding="utf-8")
    os.replace(part, path)


def render(document: Mapping[str, Any]) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("worker.replay.report", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure,
        signed=_signed,
        tone=_tone,
        moment=moment,
        differences=difference_text,
        count=lambda value: f"{value:,}",
    )
    page: dict[str, Any] = {"document": document, "verdict": _verdict(document)}
    sections = _sections(document)
    page["sections"] = [one for one in sections if one["cases"]]
    page["absent"] = [one["title"].lower() for one in sections if not one["cases"]]
    return environment.get_template("report.html.j2").render(page)


def moment(at_ms: int | None) -> str:
    """Return a time for people."""
    if at_ms is None or at_ms < 0:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _verdict(document: Mapping[str, Any]) -> list[str]:
    if document["order"] == "time":
        return list(document["verdict"])
    followed = next(iter(summary_lines(document)))
    beside = list(document["verdict"]) if len(document["arms"]) > 1 else []
    return [followed, *equality_lines(document), *beside]


def _sections(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    arms = [arm["name"] for arm in document["arms"]]
    sections = [
        _ranking_section(document, "recommendations", "Recommendations", "ndcg"),
        _ranking_section(document, "search", "Search", "ndcg"),
        _sentiment_section(document),
        _table_section(document["answers"], "Answers", document["answers"]["judged_by"]),
        _latency_section(document),
    ]
    found = [document[task] for task in ("recommendations", "search", "sentiment", "answers")]
    seen = [found[0]["lists"], found[1]["searches"], found[2]["cases"], found[3]["cases"], 1]
    for section, cases in zip(sections, seen, strict=True):
        section["arms"], section["cases"] = arms, cases
    return sections


def _ranking_section(
    document: Mapping[str, Any], task: str, title: str, headline: str
) -> dict[str, Any]:
    found = document[task]
    section = _table_section(found, title, _note(task, found))
    metric = next(
        (name for name in found["segments"].get("all", {}) if name.startswith(headline)), ""
    )
    section["plots"] = [_timeline(document, task)]
    rows = _plotted(found["segments"], metric) if metric else []
    if len(rows) > 1:
        drawn = plots.intervals(rows, f"{metric} by segment")
        section["plots"].append(_plot(f"{metric} by segment, with 95 % intervals", drawn))
    if task == "search":
        section["tables"].append(("Searches without results", found["zero_results"]))
        section["plots"].append(_timeline(document, "zero_results"))
    return section


def _plotted(
    segments: Mapping[str, Mapping[str, Any]], metric: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return rows for a plot: the large categories, others in their order; none of few cases."""
    cases = {
        name: next(iter(metrics[metric].values()))["cases"] for name, metrics in segments.items()
    }
    kept = [name for name in segments if name == "all" or cases[name] >= _LEAST_CASES]
    kept.sort(key=lambda name: cases[name] if name.startswith("category") else 0, reverse=True)
    kept.sort(key=lambda name: name.startswith("category"))
    return [
        (f"{_short(name)} ({cases[name]:,})", segments[name][metric])
        for name in kept[:_MAX_PLOTTED]
    ]


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_CHARS else f"{name[: _LABEL_CHARS - 1].rstrip()}…"


def _span(seconds: float) -> str:
    """Return a span for people."""
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.3g} {unit}"
    return f"{seconds:,.0f} s"


def _note(task: str, found: Mapping[str, Any]) -> str:
    if task == "recommendations":
        return (
            f"{found['cases']:,} of {found['lists']:,} lists were judged: a purchase followed "
            f"within {_span(found['window_s'])}. {found['lists_without_purchase_in_window']:,} had "
            f"none, {found['censored_at_the_end']:,} are censored, {found['closed_early']:,} were "
            "closed early."
        )
    return (
        f"{found['cases']:,} of {found['searches']:,} searches were judged: a purchase was credited"
        f" to them within {_span(found['window_s'])}. {found['without_purchase_in_window']:,} had "
        f"none, {found['censored_at_the_end']:,} are censored."
    )


def _table_section(found: Mapping[str, Any], title: str, note: str) -> dict[str, Any]:
    segments = found["segments"]
    tables = [("All", {"all": segments["all"]})] if "all" in segments else []
    others = {name: metrics for name, metrics in segments.items() if name != "all"}
    if others:
        tables.append(("By segment", dict(list(others.items())[:_MAX_ROWS])))
    return {"title": title, "note": note, "tables": tables, "plots": []}


def _sentiment_section(document: Mapping[str, Any]) -> dict[str, Any]:
    found = document["sentiment"]
    note = (
        f"{found['cases']:,} reviews with stars were judged; {found['without_stars']:,} had no "
        f"stars, {found['untagged']:,} no tags."
    )
    tables = [("All", {"all": found["metrics"]})] if found["metrics"] else []
    drawn = plots.calibration(found["calibration"], "confidence against being right")
    return {
        "title": "Sentiment",
        "note": note,
        "tables": tables,
        "plots": [
            _timeline(document, "sentiment"),
            _plot("Calibration: confidence (across) against how often it was right", drawn),
        ],
    }


def _latency_section(document: Mapping[str, Any]) -> dict[str, Any]:
    found = document["latency"]
    counts = {arm: row["histogram"] for arm, row in found["arms"].items()}
    drawn = plots.distribution(counts, found["edges_ms"], "time an event")
    rows = {
        arm: {name: value for name, value in row.items() if name != "histogram"}
        for arm, row in found["arms"].items()
    }
    return {
        "title": "Latency and cost",
        "note": "Measured during this replay on this machine: encoding (shared out over the texts "
        "of a pass) and ranking, without waiting, network or writing.",
        "tables": [],
        "figures": rows,
        "plots": [_plot("Share of events by time an event", drawn)],
    }


def _timeline(document: Mapping[str, Any], task: str) -> dict[str, Any]:
    buckets: Sequence[Mapping[str, Any]] = document["timeline"].get(task, ())
    series: dict[str, list[plots.Point]] = {arm["name"]: [] for arm in document["arms"]}
    for bucket in buckets:
        for arm, cell in bucket["arms"].items():
            if cell["value"] is not None and cell["low"] is not None:
                middle = bucket["from_ms"] + bucket["width_ms"] / 2
                point = plots.Point(middle, cell["value"], cell["low"], cell["high"])
                series[arm].append(point)
    label = f"{_TIMELINES[task]} over time"
    return _plot(f"{label[0].upper()}{label[1:]}", plots.timeline(series, label))


def _plot(caption: str, drawn: str) -> dict[str, Any]:
    return {"caption": caption, "svg": Markup(drawn)}  # our own SVG, its texts escaped


def _figure(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "–"
    return f"{cell['value']:.4f}"


def _tone(gap: Mapping[str, Any], metric: str) -> str:
    """Return the class of a difference that is beyond its interval: good or bad."""
    if gap["low"] is None or metric in _NEITHER or gap["low"] <= 0 <= gap["high"]:
        return ""
    return "good" if (gap["low"] > 0) != (metric in _LESS_IS_BETTER) else "bad"


def _signed(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "–"
    if cell["low"] is None:
        return f"{cell['value']:+.4f}"
    return f"{cell['value']:+.4f} [{cell['low']:+.4f}, {cell['high']:+.4f}]"
