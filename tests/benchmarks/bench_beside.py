"""What a retraining job costs the live worker beside it: one machine, one run, Kafka to Redis.

    python -m tests.benchmarks.bench_beside [--rate EVENTS_PER_S] [--job-seconds 120]

retrain_p99_over_p99   p99 latency of events sent while `shopstream retrain` works, over that of
                       events sent before it, in one run with MiniLM; the job runs with its own
                       defaults (nice 10, half the processors) and is ended after `--job-seconds`

About four minutes. Figures go to standard output, one JSON line each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench_servers import BenchServers, bench_servers
from tests.benchmarks.bench_swap import BEFORE_S, percentile, say, settings_of
from tests.benchmarks.figures import print_figure
from tests.benchmarks.latency import timed_latencies
from tests.benchmarks.loop_month import month_samples, write_products
from tests.benchmarks.workload import Run, Workload, running_worker
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.settings import Settings
from worker.topics.sample_export import write_samples
from worker.topics.sample_set import SampleSet


def measure(servers: BenchServers, options: argparse.Namespace) -> None:
    """Print the ratio."""
    folder = servers.folder / "beside"
    samples = write_month(folder / "samples", options.samples_events)
    workload = Workload(int(options.rate * (BEFORE_S + options.job_seconds)) + 2)
    store = str(folder / "store")
    with running_worker(servers, model="", threads=str(options.threads), releases_url=store) as run:
        run.load_catalogue(workload.catalogue)
        settings = settings_of(servers, run).model_copy(update={"releases_url": store})
        before, during, ended = beside(servers, run, workload, settings, samples, options)
    quiet, busy = percentile(before, 0.99), percentile(during, 0.99)
    say(
        f"p99 {1e3 * quiet:.0f} ms without a job, {1e3 * busy:.0f} ms beside one; p50 "
        f"{1e3 * percentile(before, 0.5):.0f} and {1e3 * percentile(during, 0.5):.0f} ms"
    )
    print_figure(
        "retrain_p99_over_p99", busy / quiet, "ratio",
        peer=("p99 without a job, ms", 1e3 * quiet), p99_beside_ms=round(1e3 * busy, 1),
        events_before=len(before), events_beside=len(during), events_per_s=options.rate,
        worker_threads=options.threads, cores=os.cpu_count(), parts=options.parts,
        job_ended_by_itself=ended,
    )  # fmt: skip


def write_month(samples: Path, events: int) -> Path:
    """Write a month of the simulated shop's samples and its products; return the folder."""
    shop = SimulatedShop(11, product_count=150, shopper_count=150)
    found = SampleSet()
    for sample in month_samples(shop, events):
        found.add(sample.model_dump_json().encode())
    write_samples(found, samples)
    write_products(shop, samples)
    return samples


def beside(
    servers: BenchServers,
    run: Run,
    workload: Workload,
    settings: Settings,
    samples: Path,
    options: argparse.Namespace,
) -> tuple[list[float], list[float], bool]:
    """Return the latencies before the job and beside it, and whether it ended by itself."""
    marks: list[float] = []
    ended: list[bool] = []

    def work() -> None:
        time.sleep(BEFORE_S)
        job = start_job(settings, samples, options.parts.split(","))
        marks.append(time.monotonic())
        try:
            job.wait(options.job_seconds)
            ended.append(True)
            assert job.returncode == 0, "the job failed: see its log above"
        except subprocess.TimeoutExpired:
            ended.append(False)
            job.kill()
            job.wait()
        marks.append(time.monotonic())

    working = threading.Thread(target=work)
    working.start()
    timed = timed_latencies(run, servers.redis_url, workload.events, options.rate)
    working.join()
    begin, end = marks
    before = [latency for at, latency in timed if at < begin]
    return before, [latency for at, latency in timed if begin <= at <= end], ended[0]


def start_job(settings: Settings, samples: Path, parts: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the job on the run's own names, as an operator would."""
    environment = {
        "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "SHOPSTREAM_KAFKA_IDEMPOTENT_PRODUCER": str(settings.kafka_idempotent_producer),
        "SHOPSTREAM_KAFKA_GROUP": settings.kafka_group,
        "SHOPSTREAM_REDIS_URL": settings.redis_url.get_secret_value(),
        "SHOPSTREAM_REDIS_KEY_PREFIX": settings.redis_key_prefix,
        "SHOPSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "SHOPSTREAM_INTERNAL_TOPIC_PREFIX": settings.internal_topic_prefix,
        "SHOPSTREAM_RELEASES_URL": settings.releases_url,
    }
    command = [sys.executable, "-m", "worker.commands", "retrain", "--samples", str(samples)]
    command += ["--no-export", "--parts", ",".join(parts), "--min-test", "60", "--min-new", "1"]
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.Popen(command, env={**inherited, **environment}, stdout=sys.stderr)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=40.0, help="events/s")
    parser.add_argument("--job-seconds", type=float, default=120.0)
    parser.add_argument("--samples-events", type=int, default=12_000)
    parser.add_argument("--parts", default="trunk")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    options = parser.parse_args()
    with bench_servers() as servers:
        say(f"{servers.broker}; {os.cpu_count()} cores; model threads {options.threads}")
        measure(servers, options)


if __name__ == "__main__":
    main()
