"""Figures of the whole worker, Kafka to Redis, as a process of its own.

    python -m tests.benchmarks.bench_stream [--only FIGURE …] [--events N] [--runs N] [--threads N]

end_to_end_ratio      events/s of the worker over those of its own model run offline on the same
                      texts (tokenize and encode, nothing else), both with the same threads; a run's
                      worth of events goes before, so that the vector cache is as in a running shop
p99_over_batch        p99 from the producer's clock to the result's announcement by Redis, at half
                      of that rate, over the mean time a batch spends in its stages
null_model_ratio      events/s with the null model over those of a raw confluent-kafka consumer that
                      decodes the same events and makes the same changes and results in Redis
backlog_memory_ratio  most resident memory with 300,000 events waiting over that with 20,000

Figures go to standard output, one JSON line each; what people read goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

from models.product_index import product_text
from models.text.sentiment import packaged_head
from models.text_encoder import Role, TextEncoder, Tokens
from tests.benchmarks.bench_servers import BenchServers, bench_servers
from tests.benchmarks.figures import print_figure
from tests.benchmarks.latency import measure_latencies
from tests.benchmarks.raw_consumer import raw_rate
from tests.benchmarks.workload import Run, Workload, running_worker
from worker.embedded.shop.records import SimulatedEvent
from worker.events.event import EventKind

BATCH_TOKENS = 8_192  # as the worker's own budget
LATENCY_S = 20.0
BACKLOG = 300_000
SMALL_BACKLOG = 20_000
_TEXT = {EventKind.SEARCH: "query", EventKind.REVIEW: "text", EventKind.QUESTION: "text"}


def say(line: str) -> None:
    """Print for people."""
    print(line, file=sys.stderr, flush=True)


def offline_rate(trunk: TextEncoder, events: list[SimulatedEvent]) -> float:
    """Return events/s of the model alone: all texts in full batches, heads on the reviews."""
    texts = [(event.kind, text) for event in events if (text := _text(event)) is not None]
    start = time.monotonic()
    batch: list[tuple[EventKind, Tokens]] = []
    tokens = 0
    for first in range(0, len(texts), 256):
        part = texts[first : first + 256]
        for role in ("query", "passage"):
            kinds = [kind for kind, _ in part if _role(kind) == role]
            found = trunk.tokenize([text for kind, text in part if _role(kind) == role], role)
            for kind, one in zip(kinds, found, strict=True):
                if tokens + one.bucket > BATCH_TOKENS:
                    _encode(trunk, batch)
                    batch, tokens = [], 0
                batch.append((kind, one))
                tokens += one.bucket
    _encode(trunk, batch)
    return len(events) / (time.monotonic() - start)


def _text(event: SimulatedEvent) -> str | None:
    if event.kind is EventKind.PRODUCT and event.value is not None:
        known = event.content()
        fields = {name: known.get(name) or "" for name in ("description", "category", "brand")}
        return product_text(known["title"], **fields)
    return event.content()[_TEXT[event.kind]] if event.kind in _TEXT else None


def _role(kind: EventKind) -> Role:
    return "passage" if kind in (EventKind.REVIEW, EventKind.PRODUCT) else "query"


def _encode(trunk: TextEncoder, batch: list[tuple[EventKind, Tokens]]) -> None:
    reviews = [row for row, (kind, _) in enumerate(batch) if kind is EventKind.REVIEW]
    trunk.encode([tokens for _, tokens in batch], {"sentiment": reviews} if reviews else {})


def bench_model(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print end_to_end_ratio and p99_over_batch."""
    workload = Workload(options.events * (options.runs + 2))
    trunk = TextEncoder.load(threads=options.threads)
    head = packaged_head(trunk)
    assert head is not None
    trunk.add_head("sentiment", head)
    trunk.warm_up()
    ratios, offline, live = [], [], []
    with running_worker(servers, model="", threads=str(options.threads)) as run:
        run.load_catalogue(workload.catalogue)
        # Not measured: the passages of products are encoded when they are first asked about.
        run.rate(workload.events[: options.events])
        for number in range(options.runs):
            first = (number + 1) * options.events
            events = list(workload.events[first : first + options.events])
            # Alternately, so that a noisy neighbour meets both.
            offline.append(offline_rate(trunk, events))
            before = run.stage_seconds()
            live.append(run.rate(events))
            ratios.append(live[-1] / offline[-1])
            say(f"run {number + 1}: worker {live[-1]:.0f} events/s, model alone {offline[-1]:.0f}")
            _say_stages(before, run.stage_seconds(), len(events) / live[-1])
        peer = ("the same model offline, events/s", statistics.median(offline))
        print_figure(
            "end_to_end_ratio", ratios, "ratio", goal=">= 0.8", peer=peer,
            events_per_s=round(statistics.median(live), 1), threads=options.threads,
        )  # fmt: skip
        bench_latency(servers, run, workload, statistics.median(live) / 2)


def bench_latency(servers: BenchServers, run: Run, workload: Workload, rate: float) -> None:
    """Print p99_over_batch, at a steady rate of events per second."""
    events = workload.events[-max(200, int(rate * LATENCY_S)) :]
    before = run.stage_seconds()
    latencies = sorted(measure_latencies(run, servers.redis_url, events, rate))
    after = run.stage_seconds()
    means_ms = {
        stage: 1e3
        * (after[stage][0] - before[stage][0])
        / max(1, after[stage][1] - before[stage][1])
        for stage in ("gather", "encode", "conclude", "write")
    }
    batch_ms = sum(means_ms.values())
    p50, p99 = (1e3 * latencies[int(len(latencies) * share)] for share in (0.50, 0.99))
    say(f"at {rate:.0f} events/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, a batch {batch_ms:.1f} ms")
    print_figure(
        "p99_over_batch", p99 / batch_ms, "ratio", goal="<= 4",
        peer=("mean time of a batch in its stages, ms", batch_ms),
        p50_ms=round(p50, 2), p99_ms=round(p99, 2), events_per_s=round(rate, 1),
        cases=len(latencies),
    )  # fmt: skip


def bench_null_model(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print null_model_ratio."""
    events = Workload(options.null_events).events
    ratios, live, raw = [], [], []
    for number in range(options.runs):
        with running_worker(servers) as run:
            live.append(run.rate(events))
            spent = run.stage_seconds()
            _say_stages({}, spent, len(events) / live[-1])
        raw.append(raw_rate(servers, run.shop.layout, len(events)))
        ratios.append(live[-1] / raw[-1])
        say(f"run {number + 1}: null model {live[-1]:.0f} events/s, raw consumer {raw[-1]:.0f}")
    print_figure(
        "null_model_ratio", ratios, "ratio", goal=">= 0.5",
        peer=("raw confluent-kafka consumer, events/s", statistics.median(raw)),
        events_per_s=round(statistics.median(live), 1),
    )  # fmt: skip


def bench_memory(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print backlog_memory_ratio: the same 20,000 events, once and then again and again."""
    events = Workload(SMALL_BACKLOG).events
    with running_worker(servers) as run:
        small = _most_resident_mb(run, lambda: run.send(events), len(events))
        rounds = BACKLOG // SMALL_BACKLOG

        def send_backlog() -> None:
            for _ in range(rounds):
                run.send(events)

        large = _most_resident_mb(run, send_backlog, rounds * len(events))
    say(f"resident: {small:.0f} MB with {SMALL_BACKLOG} waiting, {large:.0f} MB with {BACKLOG}")
    print_figure(
        "backlog_memory_ratio", large / small, "ratio", goal="<= 1.1",
        peer=(f"MB with {SMALL_BACKLOG} events", small), megabytes=round(large, 1),
    )  # fmt: skip


def _most_resident_mb(run: Run, send: Callable[[], None], count: int) -> float:
    """Send, watch the worker's resident memory until all is finished, and return its greatest."""
    done = run.finished() + count
    send()
    most = 0.0
    while run.finished() < done:
        most = max(most, resident_mb(run.worker.pid))
        time.sleep(0.2)
    return most


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process (Linux)."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _say_stages(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]], wall_s: float
) -> None:
    shares = {
        stage: (seconds - before.get(stage, (0.0, 0.0))[0]) / wall_s
        for stage, (seconds, _) in after.items()
    }
    say("   busy: " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items()))


FIGURES: dict[str, Callable[[BenchServers, argparse.Namespace], None]] = {
    "model": bench_model,
    "null": bench_null_model,
    "memory": bench_memory,
}


def main() -> None:
    """Run the benchmarks asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--events", type=int, default=3_000, help="events of a run with the model")
    parser.add_argument("--null-events", type=int, default=30_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    options = parser.parse_args()
    with bench_servers() as servers:
        say(f"{servers.broker}; {os.cpu_count()} cores; model threads {options.threads}")
        for name in options.only:
            FIGURES[name](servers, options)


if __name__ == "__main__":
    main()
