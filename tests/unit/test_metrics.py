"""The list of metrics, its page, and the log's lines."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from worker.page.log_lines import OneLineFormatter
from worker.page.metrics import METRICS, WorkerMetrics, metrics_markdown

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_of_metrics_is_made_from_the_list() -> None:
    """docs/metrics.md holds the very table that the code gives."""
    assert metrics_markdown() in PAGE.read_text(encoding="utf-8")


def test_every_metric_of_the_list_exists_with_its_labels() -> None:
    """`WorkerMetrics` has an attribute for each name, with the documented labels."""
    metrics = WorkerMetrics()
    for spec in METRICS:
        name = spec.name.removeprefix("shopstream_").removesuffix("_total")
        assert getattr(metrics, name)._labelnames == tuple(spec.labels)
        assert bool(spec.buckets) == (spec.type == "histogram")


def test_two_workers_in_one_process_do_not_share_figures() -> None:
    """Each `WorkerMetrics` has a registry of its own."""
    first, second = WorkerMetrics(), WorkerMetrics()
    first.events_dropped.inc()
    assert second.registry.get_sample_value("shopstream_events_dropped_total") == 0


def test_a_log_record_is_one_line() -> None:
    """A message of several lines and a traceback stand on one line, with time and level."""
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord(
            "worker.flow", logging.ERROR, __file__, 1, "it failed:\n%s", ("why",), sys.exc_info()
        )
    line = OneLineFormatter().format(record)
    assert "\n" not in line
    assert " ERROR   worker.flow: it failed: | why | Traceback" in line
