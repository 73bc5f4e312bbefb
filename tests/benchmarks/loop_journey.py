"""Complete Journey with a retraining job a week: what each release is worth in the week after it.

The job learns from the samples that a worker would have made until then; `shopstream replay` judges
the release that serves after it on the lists of the next seven days, beside what sells best and
beside the first release, which knows nothing but the rules.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from models.releases.publish import publish_folder
from models.releases.store import ReleaseStore
from models.sample import Sample
from tests.benchmarks.bench_stream import say
from tests.benchmarks.figures import print_figure, shared_file
from tests.benchmarks.journey_replay import JUDGE_FROM, journey_files, parse
from tests.benchmarks.loop_month import tell
from tests.benchmarks.loop_samples import known_by, samples_of
from training.guards import GateOptions
from training.job.options import JobOptions
from training.job.run import JobHooks, run_job
from training.parts.recommender_part import RecommenderPart
from training.recommender.train import RecommenderTraining
from worker.events.decode import EventLimits
from worker.events.event import Product
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.merge import events_by_time
from worker.replay.recordings.public import import_files
from worker.replay.recordings.recording import Recording
from worker.replay.run import run_replay
from worker.replay.sources import ReplayJob
from worker.settings import Settings
from worker.topics.sample_export import write_samples

METRICS = ("hr@10", "ndcg@10")
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Weeks:
    """The size of the experiment."""

    households: int = 100
    count: int = 7  # weeks 33 to 39: the last one's lists need a week of purchases after them
    train_s: float = 120.0


def run_weeks(weeks: Weeks) -> None:
    """Print, week by week, the release that serves beside the first one and beside popularity."""
    folder = ("data", "recommendation", "complete-journey")
    source = shared_file(*folder, "transactions_weeks_01_40.parquet")
    catalogue = shared_file(*folder, "products.parquet")
    settings = Settings(threads=1)
    with tempfile.TemporaryDirectory(prefix="shopstream-weeks-") as work:
        room = Path(work)
        files = parse(*journey_files(source, catalogue, room, weeks.households))
        recording = room / "recording"
        import_files(settings, files, recording, Faults("skip"))
        samples = list(_samples(recording, room / "samples"))
        _run(weeks, settings, recording, samples, room)


def _samples(recording: Path, folder: Path) -> Iterator[Sample]:
    """Return the samples of the recorded events, and write the products as the export does."""
    folder.mkdir()
    events = [
        one.event
        for one in events_by_time(Recording.open(recording, Faults("skip")), EventLimits())
    ]
    with (folder / "products.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(
            event.model_dump_json(exclude_none=True) + "\n"
            for event in events
            if isinstance(event, Product)
        )
    return samples_of(events)


def _run(
    weeks: Weeks, settings: Settings, recording: Path, samples: list[Sample], room: Path
) -> None:
    store = ReleaseStore(room / "store")
    (room / "base").mkdir()
    first = current = publish_folder(store, "", room / "base")
    products = room / "samples" / "products.jsonl"
    training = RecommenderTraining(time_limit_s=weeks.train_s, visits=True)
    parts = (RecommenderPart(products, training),)
    options = JobOptions(
        room / "samples", room / "work", products=products, max_tokens=64, min_new=50,
        gate=GateOptions(),
    )  # fmt: skip
    begin = datetime.fromisoformat(JUDGE_FROM)
    for number in range(weeks.count):
        moment = begin + number * WEEK
        write_samples(known_by(samples, moment), options.samples)
        started_s = time.monotonic()
        report = run_job(
            options, store, current, parts, JobHooks(lambda: None, lambda new, old: None)
        )
        current = report.release_id or current
        tell(f"week {33 + number}", report)
        say(f"the job took {time.monotonic() - started_s:.0f} s")
        document = asyncio.run(_judged(settings, recording, store, first, current, moment))
        _print(document, 33 + number, bool(report.release_id))


async def _judged(
    settings: Settings, recording: Path, store: ReleaseStore, first: str, now: str, moment: datetime
) -> dict[str, object]:
    """Replay the lists of the week from `moment` on, each by the purchases of its next 7 days."""
    arms = [f"{name}={store.fetch(one)}" for name, one in (("first", first), ("now", now))]
    job = ReplayJob(
        events=recording,
        order="time",
        releases=(*arms, "popularity"),
        judge_from_ms=_ms(moment),
        until_ms=_ms(moment + 2 * WEEK),
        window_s=WEEK.total_seconds(),
    )
    return await run_replay(settings, job)


def _print(document: dict[str, object], week: int, released: bool) -> None:
    table = document["recommendations"]["segments"]["all"]  # type: ignore[index]
    for metric in METRICS:
        now, first, popular = (table[metric][arm] for arm in ("now", "first", "popularity"))
        print_figure(
            f"journey_week_{metric}", now["value"], metric,
            peer=("the first release", first["value"]),
            week=week, interval=[now["low"], now["high"]], cases=now["cases"],
            gain=now.get("difference"), popularity=popular["value"], released=released,
            load=os.getloadavg()[0],
        )  # fmt: skip


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
