"""The worker beside the naive way: a Faust agent that calls a `pipeline()` for each event.

    python -m tests.benchmarks.bench_naive [--events N] [--runs N] [--threads N]

naive_speedup   events/s of the worker over those of the naive agent, same events, same threads

Both get their events as a backlog; the naive one gets fewer, for it takes long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import redis

from tests.benchmarks.bench_servers import BenchServers, bench_servers
from tests.benchmarks.figures import print_figure
from tests.benchmarks.workload import PATIENCE_S, Workload, running_worker
from tests.support.admin import create_topics
from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from worker.embedded.shop.records import SimulatedEvent

NAIVE_SHARE = 5  # the naive agent gets a fifth of the events


@contextmanager
def naive_agent(servers: BenchServers, names: Names, threads: int) -> Iterator[None]:
    """Run the naive agent until the block ends."""
    log = servers.folder / f"{names.unique}.log"
    with log.open("w+") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.naive_agent"),
                *(servers.bootstrap_servers, servers.redis_url, names.unique, str(threads)),
            ],
            stdout=out,
            stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while "READY" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the naive agent did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
            yield
        finally:
            process.kill()
            process.wait()


def naive_rate(servers: BenchServers, events: Sequence[SimulatedEvent], threads: int) -> float:
    """Return events/s of the naive agent over a backlog, from its first event to its last."""
    names = Names.unused()
    shop = ShopTopics(servers.bootstrap_servers, names)
    create_topics(servers.bootstrap_servers, shop.layout.events, partitions=4)
    for event in events:
        shop.send_raw(event.kind, event.key, event.value)
    shop.flush()
    with redis.Redis.from_url(servers.redis_url) as client, ExitStack() as stack:
        client.delete("naive:done")  # before the agent starts: it counts from its first event on
        stack.enter_context(naive_agent(servers, names, threads))

        def done() -> int:
            return int(client.get("naive:done") or 0)

        deadline = time.monotonic() + PATIENCE_S
        start, first = 0.0, 0
        while done() < len(events):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done()} of {len(events)} events")
            if not start and done():
                start, first = time.monotonic(), done()
            time.sleep(0.05)
        return (len(events) - first) / (time.monotonic() - start)


def main() -> None:
    """Print naive_speedup."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    options = parser.parse_args()
    workload = Workload(options.events)
    ratios, live, naive = [], [], []
    with bench_servers() as servers:
        print(f"{servers.broker}; {os.cpu_count()} cores", file=sys.stderr)
        for number in range(options.runs):
            with running_worker(servers, model="", threads=str(options.threads)) as run:
                run.load_catalogue(workload.catalogue)
                live.append(run.rate(workload.events))
            fewer = workload.events[: options.events // NAIVE_SHARE]
            naive.append(naive_rate(servers, fewer, options.threads))
            ratios.append(live[-1] / naive[-1])
            print(
                f"run {number + 1}: worker {live[-1]:.0f} events/s, naive {naive[-1]:.0f}",
                file=sys.stderr,
            )
    print_figure(
        "naive_speedup", ratios, "ratio", goal=">= 3",
        peer=("Faust agent with a pipeline() an event, events/s", statistics.median(naive)),
        events_per_s=round(statistics.median(live), 1), threads=options.threads,
    )  # fmt: skip


if __name__ == "__main__":
    main()
