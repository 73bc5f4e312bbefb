"""Every metric of the worker, in one list: name, type, labels and meaning.

`docs/metrics.md` is made from this file (`metrics_markdown`) and a test keeps the two equal. Each
process owns one `WorkerMetrics` with its own registry; the rooms that decide also record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

# From a twentieth of a millisecond (a null model) to the longest stall a session timeout allows.
_SECONDS = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_POWERS_OF_2 = tuple(float(2**power) for power in range(17))
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric as it is exported."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "shopstream_events_total",
        "counter",
        "Events finished: results in Redis, messages acknowledged by Kafka. `outcome` is"
        " `processed` or `dead_letter`.",
        ("kind", "outcome"),
    ),
    MetricSpec(
        "shopstream_events_dropped_total",
        "counter",
        "Events given back before a batch took them, because their partitions were revoked;"
        " whoever owns the partition now reads them again.",
    ),
    MetricSpec(
        "shopstream_dead_letters_total", "counter", "Events sent to the dead letters.", ("code",)
    ),
    MetricSpec(
        "shopstream_results_total",
        "counter",
        "Results offered to Redis. `outcome` is `written`, `older` (a newer one stood there) or"
        " `forgotten` (the shopper asked to be).",
        ("outcome",),
    ),
    MetricSpec(
        "shopstream_messages_total",
        "counter",
        "Records that Kafka acknowledged, by internal topic.",
        ("topic",),
    ),
    MetricSpec(
        "shopstream_event_latency_seconds",
        "histogram",
        "From an event's Kafka timestamp to its results standing in Redis.",
        ("kind",),
        _SECONDS,
    ),
    MetricSpec(
        "shopstream_stage_seconds",
        "histogram",
        "Time a batch spends in a stage: prepare (decode and tokenize one take of records), gather"
        " (state), encode (model), conclude (ranking), write (Redis), send (Kafka).",
        ("stage",),
        _SECONDS,
    ),
    MetricSpec(
        "shopstream_batch_events",
        "histogram",
        "Events in a batch.",
        buckets=_POWERS_OF_2,
    ),
    MetricSpec(
        "shopstream_batch_tokens",
        "histogram",
        "Tokens of a batch's own texts, padding counted.",
        buckets=_POWERS_OF_2,
    ),
    MetricSpec(
        "shopstream_batch_padding_ratio",
        "histogram",
        "Share of a batch's tokens that is padding.",
        buckets=_SHARES,
    ),
    MetricSpec(
        "shopstream_queue_wait_seconds",
        "histogram",
        "Longest wait of a batch's events between prepared and taken.",
        buckets=_SECONDS,
    ),
    MetricSpec("shopstream_events_in_flight", "gauge", "Events taken from Kafka and not finished."),
    MetricSpec("shopstream_batches_in_flight", "gauge", "Batches taken and not finished."),
    MetricSpec(
        "shopstream_watermark_lag_events",
        "gauge",
        "Records of an assigned partition that are not yet committed.",
        ("topic", "partition"),
    ),
    MetricSpec("shopstream_products", "gauge", "Products in this worker's index."),
    MetricSpec(
        "shopstream_product_records_total",
        "counter",
        "Records read from the topic of product vectors. `outcome` is `taken`, `unreadable`, or"
        " `encoded_again` (also taken; another text trunk had encoded it).",
        ("outcome",),
    ),
    MetricSpec(
        "shopstream_product_vectors_brought_total",
        "counter",
        "Vectors of products that the topic lacked for a trunk of this worker. `source` is"
        " `release` (they came with it) or `encoded` (by this worker).",
        ("trunk", "source"),
    ),
    MetricSpec(
        "shopstream_products_republished_total",
        "counter",
        "Products sent again with the vectors of the trunk that serves now.",
    ),
    MetricSpec(
        "shopstream_release_swaps_total",
        "counter",
        "Releases that were to serve. `outcome` is `switched`, `refused` (the one before serves"
        " on) or `superseded` (another one came while it was being loaded).",
        ("outcome",),
    ),
    MetricSpec(
        "shopstream_release_swap_seconds",
        "gauge",
        "Time of the last swap by `step`: load (fetch, check, warm up), vectors (of all products),"
        " switch.",
        ("step",),
    ),
    MetricSpec(
        "shopstream_release_info",
        "gauge",
        "1 for each release that serves now; `arm` is `current` or `candidate`.",
        ("release", "trunk", "arm"),
    ),
    MetricSpec(
        "shopstream_worker_info",
        "gauge",
        "Always 1; its labels say what runs.",
        ("process_id", "device", "dtype"),
    ),
)
_SPECS = {spec.name: spec for spec in METRICS}


class WorkerMetrics:
    """The metrics of one worker, one attribute each (the name less its prefix and `_total`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = self._counter("shopstream_events_total")
        self.events_dropped = self._counter("shopstream_events_dropped_total")
        self.dead_letters = self._counter("shopstream_dead_letters_total")
        self.results = self._counter("shopstream_results_total")
        self.messages = self._counter("shopstream_messages_total")
        self.event_latency_seconds = self._histogram("shopstream_event_latency_seconds")
        self.stage_seconds = self._histogram("shopstream_stage_seconds")
        self.batch_events = self._histogram("shopstream_batch_events")
        self.batch_tokens = self._histogram("shopstream_batch_tokens")
        self.batch_padding_ratio = self._histogram("shopstream_batch_padding_ratio")
        self.queue_wait_seconds = self._histogram("shopstream_queue_wait_seconds")
        self.events_in_flight = self._gauge("shopstream_events_in_flight")
        self.batches_in_flight = self._gauge("shopstream_batches_in_flight")
        self.watermark_lag_events = self._gauge("shopstream_watermark_lag_events")
        self.products = self._gauge("shopstream_products")
        self.product_records = self._counter("shopstream_product_records_total")
        self.product_vectors_brought = self._counter("shopstream_product_vectors_brought_total")
        self.products_republished = self._counter("shopstream_products_republished_total")
        self.release_swaps = self._counter("shopstream_release_swaps_total")
        self.release_swap_seconds = self._gauge("shopstream_release_swap_seconds")
        self.release_info = self._gauge("shopstream_release_info")
        self.worker_info = self._gauge("shopstream_worker_info")

    def add_process_figures(self) -> None:
        """Export memory, CPU time and open files of this process too (a live worker's page)."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str) -> Counter:
        spec = _SPECS[name]
        return Counter(name, spec.meaning, spec.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        spec = _SPECS[name]
        return Gauge(name, spec.meaning, spec.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        spec = _SPECS[name]
        return Histogram(
            name, spec.meaning, spec.labels, registry=self.registry, buckets=spec.buckets
        )


def metrics_markdown() -> str:
    """Return the table of docs/metrics.md."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for spec in METRICS:
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "–"
        lines.append(f"| `{spec.name}` | {spec.type} | {labels} | {spec.meaning} |")
    return "\n".join(lines) + "\n"
