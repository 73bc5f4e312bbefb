"""Hot swaps of a whole worker under load, Kafka to Redis.

    python -m tests.benchmarks.bench_swap [--only FIGURE …] [--swaps N] [--rate EVENTS_PER_S]

swap_p99_over_p99        p99 latency of events sent during a swap over that of events sent before,
                         in one run: MiniLM to MiniLM with other weights, so that all products are
                         encoded again beside the live events
head_swap_p99_over_p99   the same where only the sentiment head changes
swap_seconds             from `releases promote` to the worker's report that it serves the release
rollback_seconds         the same of a rollback to the release before
swaps_lost_events        events without a result after N swaps (1,000) between two releases of
swaps_mixed_results      different trunks under load; results whose release is not their batch's

Figures go to standard output, one JSON line each; what people read goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import redis
import torch
from safetensors.torch import load_file, save_file

from models.release import open_trunk
from models.releases.folder import ReleaseParts, assemble_release, seal_release
from models.releases.manifest import ReleaseManifest
from models.releases.store import ReleaseStore
from models.text.sentiment import load, packaged_head_folder, save
from tests.benchmarks.bench_servers import BenchServers, bench_servers
from tests.benchmarks.figures import print_figure
from tests.benchmarks.latency import timed_latencies
from tests.benchmarks.workload import Run, Workload, running_worker
from tests.support.release_shop import ReleaseShop
from worker.embedded.shop.records import SimulatedEvent
from worker.events.event import EventKind
from worker.settings import Settings

BEFORE_S = 12.0  # of steady load before each swap: what its latencies are compared with
CHECKED = {EventKind.SEARCH: "search", EventKind.REVIEW: "tags", EventKind.QUESTION: "answer"}


def say(line: str) -> None:
    """Print for people."""
    print(line, file=sys.stderr, flush=True)


def settings_of(servers: BenchServers, run: Run) -> Settings:
    """Return the settings of a run's worker, as a command beside it has them."""
    names = run.names
    return Settings(
        kafka_bootstrap_servers=servers.bootstrap_servers,
        kafka_idempotent_producer=servers.idempotent,
        redis_url=servers.redis_url,  # type: ignore[arg-type]
        redis_key_prefix=names.key_prefix,
        topic_prefix=names.event_prefix,
        internal_topic_prefix=names.internal_prefix,
        kafka_group=names.group,
    )


def publish_minilm(store: Path, folder: Path, name: str, *, noise: float, head_seed: int) -> str:
    """Publish MiniLM with its weights shaken by `noise` and a head shaken by `head_seed`."""
    trunk = folder / f"{name}-trunk"
    shutil.copytree(open_trunk("").folder, trunk)
    weights = load_file(trunk / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    if noise:
        for key, value in weights.items():
            if value.is_floating_point():
                shake = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                weights[key] = value * (1 + noise * shake)
        save_file(weights, trunk / "model.safetensors", metadata={"format": "pt"})
    packaged = packaged_head_folder(open_trunk("").weights_checksum)
    assert packaged is not None
    head = load(packaged)
    generator.manual_seed(head_seed)
    with torch.no_grad():
        head.output.bias += 1e-3 * torch.randn(head.output.bias.shape, generator=generator)
    checksum = open_trunk(trunk).weights_checksum
    save(head, folder / f"{name}-head", name="sentiment", lineage={"trunk_weights": checksum})
    parts = ReleaseParts(trunk=trunk, heads={"sentiment": folder / f"{name}-head"})
    assemble_release(folder / name, parts)
    seal_release(folder / name, ReleaseManifest(name=name), trunk=trunk)
    return ReleaseStore(store).publish(folder / name)


def bench_latency(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print the p99 ratios, and how long a swap and a rollback take."""
    folder = servers.folder / "releases"
    store = folder / "store"
    first = publish_minilm(store, folder, "first", noise=0.0, head_seed=0)
    head = publish_minilm(store, folder, "head", noise=0.0, head_seed=1)
    trunk = publish_minilm(store, folder, "trunk", noise=1e-3, head_seed=1)
    workload = Workload(int(options.rate * 2 * (BEFORE_S + options.swap_seconds)) + 2)
    with running_worker(
        servers, model="", threads=str(options.threads), releases_url=str(store)
    ) as run:
        shop = ReleaseShop(folder, settings_of(servers, run))
        run.load_catalogue(workload.catalogue)
        shop.promote(first)
        shop.wait_serving(first)
        position = 0
        for name, release in (("head_swap", head), ("swap", trunk)):
            seconds = options.swap_seconds
            count = int((BEFORE_S + seconds) * options.rate)
            events = workload.events[position : position + count]
            position += count
            swap_s, before, during = _during(servers, run, events, options.rate, shop, release)
            _print_ratio(f"{name}_p99_over_p99", before, during, swap_s, options, len(
                workload.catalogue
            ))  # fmt: skip
        started_s = time.monotonic()
        shop.roll_back()
        shop.wait_serving(head)
        print_figure("rollback_seconds", time.monotonic() - started_s, "s", goal="seconds")


def _during(
    servers: BenchServers,
    run: Run,
    events: Sequence[SimulatedEvent],
    rate: float,
    shop: ReleaseShop,
    release: str,
) -> tuple[float, list[float], list[float]]:
    """Return the seconds of one swap, and the latencies before it and during it."""
    marks: list[float] = []

    def swap() -> None:
        time.sleep(BEFORE_S)
        marks.append(time.monotonic())
        shop.promote(release)
        shop.wait_serving(release)
        marks.append(time.monotonic())

    swapping = threading.Thread(target=swap)
    swapping.start()
    timed = timed_latencies(run, servers.redis_url, events, rate)
    swapping.join()
    begin, end = marks
    before = [latency for at, latency in timed if at < begin]
    during = [latency for at, latency in timed if begin <= at <= end]
    return end - begin, before, during


def _print_ratio(
    figure: str,
    before: list[float],
    during: list[float],
    swap_s: float,
    options: argparse.Namespace,
    products: int,
) -> None:
    quiet, busy = percentile(before, 0.99), percentile(during, 0.99)
    say(
        f"{figure}: p99 {1e3 * quiet:.0f} ms without, {1e3 * busy:.0f} ms during a swap of "
        f"{swap_s:.1f} s; p50 {1e3 * percentile(before, 0.5):.0f} and "
        f"{1e3 * percentile(during, 0.5):.0f} ms"
    )
    print_figure(
        figure, busy / quiet, "ratio",
        peer=("p99 without a swap, ms", 1e3 * quiet),
        p99_during_ms=round(1e3 * busy, 1), swap_seconds=round(swap_s, 2),
        events_before=len(before), events_during=len(during),
        events_per_s=options.rate, products=products, threads=options.threads,
    )  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def bench_many(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print what is lost and mixed by many swaps of tiny models."""
    folder = servers.folder / "tiny"
    folder.mkdir()
    with running_worker(servers, releases_url=str(folder / "store")) as run:
        settings = settings_of(servers, run)
        shop = ReleaseShop(folder, settings)
        both = [shop.publish(f"r{n}", trunk_seed=n, head_seed=n) for n in range(2)]
        workload = Workload(options.many_events)
        run.load_catalogue(workload.catalogue)
        for release in both:
            shop.promote(release)
            shop.wait_serving(release)
        stop = threading.Event()
        sent: list[SimulatedEvent] = []
        load = threading.Thread(
            target=_send_steadily, args=(run, workload.events, options.many_rate, stop, sent)
        )
        load.start()
        started_s = time.monotonic()
        swapped = asyncio.run(_swap_many(shop, servers, run, both, options.swaps))
        seconds = time.monotonic() - started_s
        stop.set()
        load.join()
        run.shop.wait_committed(300)
        say(f"{swapped} swaps in {seconds:.0f} s under {len(sent) / seconds:.0f} events/s")
        lost, mixed, checked = _check(servers, run, sent)
        figures = run.worker.metrics()
        switched = figures['shopstream_release_swaps_total{outcome="switched"}']
    more: dict[str, Any] = {
        "swaps": int(switched), "events": len(sent), "events_per_s": round(len(sent) / seconds, 1),
    }  # fmt: skip
    print_figure("swaps_lost_events", lost, "events", goal="0", **more)
    print_figure("swaps_mixed_results", mixed, "results", goal="0", results=checked, **more)


def _send_steadily(
    run: Run,
    events: Sequence[SimulatedEvent],
    rate: float,
    stop: threading.Event,
    sent: list[SimulatedEvent],
) -> None:
    start = time.monotonic()
    for number, event in enumerate(events):
        wait_s = start + number / rate - time.monotonic()
        if stop.wait(max(0.0, wait_s)):
            break
        run.shop.send_raw(event.kind, event.key, event.value)
        sent.append(event)
    run.shop.flush()


async def _swap_many(
    shop: ReleaseShop, servers: BenchServers, run: Run, both: Sequence[str], swaps: int
) -> int:
    """Promote the two releases in turn, each once the worker serves the one before."""
    from worker.store.release_pointer import ReleasePointer
    from worker.store.release_reports import ReleaseReports

    pointer = ReleasePointer.from_settings(shop.settings)
    reports = ReleaseReports.from_settings(shop.settings)
    wake = run.shop
    topic = wake.layout.releases
    try:
        for number in range(swaps):
            release = both[number % 2]
            await pointer.promote(release, shop.settings.releases_url)
            wake.send_to(topic, b"current", b"{}")
            while [one.release for one in await reports.workers()] != [release]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            if number % 100 == 99:
                say(f"{number + 1} swaps")
    finally:
        await pointer.close()
        await reports.close()
    return swaps


def _check(servers: BenchServers, run: Run, sent: Sequence[SimulatedEvent]) -> tuple[int, int, int]:
    """Return events without a result, results of another release than their batch's, results."""
    batches = {
        one["batch_id"]: one["release"] for one in run.shop.read_json(run.shop.layout.batches)
    }
    lost = mixed = checked = 0
    prefix = run.names.key_prefix
    with redis.Redis.from_url(servers.redis_url) as client:
        # Who asks to be forgotten takes the results along.
        forgotten = {event.key for event in sent if event.kind is EventKind.FORGET}
        wanted = [
            f"{prefix}:{CHECKED[event.kind]}:{event.result_id}"
            for event in sent
            if event.kind in CHECKED and event.key not in forgotten
        ]
        for start in range(0, len(wanted), 1_000):
            for value in client.mget(wanted[start : start + 1_000]):
                if value is None:
                    lost += 1
                    continue
                result = orjson.loads(value)
                checked += 1
                mixed += batches.get(result["batch_id"]) != result["release"]
    return lost, mixed, checked


FIGURES: dict[str, Callable[[BenchServers, argparse.Namespace], None]] = {
    "latency": bench_latency,
    "many": bench_many,
}


def main() -> None:
    """Run the benchmarks asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--swaps", type=int, default=1_000)
    parser.add_argument("--rate", type=float, default=40.0, help="events/s with the real model")
    parser.add_argument(
        "--swap-seconds", type=float, default=40.0, help="how long events go on beside a swap"
    )
    parser.add_argument("--many-rate", type=float, default=200.0)
    parser.add_argument("--many-events", type=int, default=60_000, help="most events to send")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    options = parser.parse_args()
    with bench_servers() as servers:
        say(f"{servers.broker}; {os.cpu_count()} cores; model threads {options.threads}")
        for name in options.only:
            FIGURES[name](servers, options)


if __name__ == "__main__":
    main()
