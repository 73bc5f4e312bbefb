"""Figures of replays.

    python -m tests.benchmarks.bench_replay [--only FIGURE …] [--events N] [--small N] [--large N]

replay_ratio    events/s of a whole replay (in order of time, all judged) over those of its own
                model run offline on the events' texts, both with the same threads; what questions
                are answered from is work of the replay alone
replay_memory   most resident memory of a replay of a large log over that of a small one (null
                model, simulated shop; the logs are 1M and 10M events unless told otherwise)
replay_follow_memory
                the same for replays that follow batch records (--follow-small and -large events)
replay_journey  Complete Journey, weeks 33 to 40 after a warm-up on the earlier ones: popularity,
                content, the shipped rules and a recommender learnt from weeks 1 to 32, with
                intervals, and the time a month takes (needs the shared data); 15 minutes on two
                cores with 100 households, a third of it training, which is kept for the next run

Figures go to standard output, one JSON line each; what people read goes to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from models.text.sentiment import packaged_head
from models.text_encoder import TextEncoder
from tests.benchmarks.bench_stream import offline_rate, say
from tests.benchmarks.figures import print_figure
from tests.benchmarks.journey_replay import add_journey_options, bench_journey
from tests.benchmarks.long_log import long_log
from tests.support.live_run import LiveRun
from tests.support.recordings import write_recording
from worker.embedded.shop.records import SimulatedEvent
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind
from worker.replay.run import run_replay
from worker.replay.sources import ReplayJob
from worker.settings import Settings

EVENT_RATE = 4.0  # a second of event time: ten million events are a month, and guards end
Recorded = tuple[EventKind, bytes | None, bytes | None, int]


def simulated(count: int, shoppers: int = 2_000) -> Iterator[SimulatedEvent]:
    """Yield a simulated shop's products and valid events."""
    shop = SimulatedShop(shopper_count=shoppers)
    events = (one for one in shop.events(rate=EVENT_RATE) if one.valid)
    return itertools.chain(shop.catalogue(), itertools.islice(events, count))


def recorded(events: Iterator[SimulatedEvent]) -> Iterator[Recorded]:
    """Yield events as `write_recording` takes them."""
    for one in events:
        yield one.kind, one.key, one.value, int(one.occurred_at.timestamp() * 1000)


def bench_ratio(options: argparse.Namespace) -> None:
    """Print replay_ratio."""
    trunk = TextEncoder.load(threads=options.threads)
    head = packaged_head(trunk)
    assert head is not None
    trunk.add_head("sentiment", head)
    trunk.warm_up()
    ratios, rates, offline = [], [], []
    events = list(simulated(options.events))
    with tempfile.TemporaryDirectory() as folder:
        write_recording(Path(folder) / "r", recorded(iter(events)), partitions=4)
        settings = Settings(threads=options.threads)
        for number in range(options.runs):
            offline.append(offline_rate(trunk, events))
            rates.append(_rate(settings, Path(folder) / "r"))
            ratios.append(rates[-1] / offline[-1])
            say(f"run {number + 1}: replay {rates[-1]:.0f} events/s, model {offline[-1]:.0f}")
    print_figure(
        "replay_ratio", ratios, "ratio", goal=">= 0.9",
        peer=("the same model offline, events/s", offline[-1]),
        events_per_s=round(rates[-1], 1), threads=options.threads, load=os.getloadavg()[0],
    )  # fmt: skip


def _rate(settings: Settings, folder: Path) -> float:
    """Return events/s of one replay, from its first text to its last figure."""
    job = ReplayJob(events=folder, order="time", releases=("current",), warm_up_share=0.0)
    document = asyncio.run(run_replay(settings, job))
    return float(document["protocol"]["events"] / document["protocol"]["seconds"])


def bench_memory(options: argparse.Namespace) -> None:
    """Print replay_memory; each log is replayed by a process of its own."""
    most: list[float] = []
    took_s: list[float] = []
    for count in (options.small, options.large):
        with tempfile.TemporaryDirectory() as folder:
            written_s = time.monotonic()
            write_recording(Path(folder) / "r", long_log(count, options.shoppers), partitions=4)
            began_s = time.monotonic()
            by_time = ("--order", "time", "--release", "current")
            most.append(_resident_mb(Path(folder) / "r", options.judged_share, *by_time))
            took_s.append(time.monotonic() - began_s)
        say(
            f"{count:,} events written in {began_s - written_s:.0f} s, replayed in "
            f"{took_s[-1]:.0f} s: {most[-1]:.0f} MB at most"
        )
    print_figure(
        "replay_memory_ratio", most[1] / most[0], "ratio", goal="<= 1.1",
        peer=(f"MB with {options.small:,} events", most[0]),
        megabytes=round(most[1], 1), events=options.large, judged_share=options.judged_share,
        events_per_s=round(options.large / took_s[1]), load=os.getloadavg()[0],
    )  # fmt: skip


def bench_follow_memory(options: argparse.Namespace) -> None:
    """Print replay_follow_memory; the recorded run has crashes and races, all of it is judged."""
    most: list[float] = []
    for count in (options.follow_small, options.follow_large):
        with tempfile.TemporaryDirectory() as folder:
            live = LiveRun(Path(folder) / "r")
            asyncio.run(live.run(seed=1, count=count))
            most.append(_resident_mb(live.folder, 1.0, "--order", "batches"))
        say(f"{count:,} events followed: {most[-1]:.0f} MB at most")
    print_figure(
        "replay_follow_memory_ratio", most[1] / most[0], "ratio", goal="<= 1.1",
        peer=(f"MB with {options.follow_small:,} events", most[0]),
        megabytes=round(most[1], 1), events=options.follow_large, load=os.getloadavg()[0],
    )  # fmt: skip


def _resident_mb(folder: Path, judged_share: float, *options: str) -> float:
    command = [sys.executable, "-m", "worker.commands", "replay", "--events", str(folder)]
    command += [*options, "--window", "1h", "--json", "--warm-up-share", str(1 - judged_share)]
    environment = {**os.environ, "SHOPSTREAM_MODEL": "null"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    return float(json.loads(done.stdout)["peak_resident_mb"])


def _one_thread_an_operation() -> None:
    """Begin again with numpy's operations on one thread each, unless the caller said how many.

    They are small; threads that wait for each other take the cores from the model.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(
            sys.executable, [sys.executable, "-m", "tests.benchmarks.bench_replay", *sys.argv[1:]]
        )


FIGURES: dict[str, Callable[[argparse.Namespace], None]] = {
    "ratio": bench_ratio,
    "memory": bench_memory,
    "follow-memory": bench_follow_memory,
    "journey": bench_journey,
}


def main() -> None:
    """Run the benchmarks asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--events", type=int, default=20_000, help="of the ratio")
    parser.add_argument("--runs", type=int, default=3, help="of the ratio")
    parser.add_argument("--small", type=int, default=1_000_000, help="events of the small log")
    parser.add_argument("--large", type=int, default=10_000_000, help="events of the large log")
    parser.add_argument(
        "--shoppers", type=int, default=2_000,
        help="of those logs; the small one must fill their histories (200 events each)",
    )  # fmt: skip
    parser.add_argument(
        "--judged-share", type=float, default=0.01,
        help="of the events of a log whose memory is measured; the others only warm the state",
    )  # fmt: skip
    parser.add_argument("--follow-small", type=int, default=20_000, help="events of a live run")
    parser.add_argument("--follow-large", type=int, default=100_000, help="events of a long one")
    add_journey_options(parser)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    options = parser.parse_args()
    _one_thread_an_operation()
    for name in options.only:
        FIGURES[name](options)


if __name__ == "__main__":
    main()
