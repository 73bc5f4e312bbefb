"""A month of the simulated shop: samples as the worker makes them, a job every few days.

After each job the release that then serves is judged on the days that follow, which no job has seen
yet, beside the release of the first day on the same days.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from models.metrics import mean_estimate, paired_difference
from models.releases.publish import publish_folder
from models.releases.store import ReleaseStore
from models.sample import Sample
from tests.benchmarks.figures import print_figure
from tests.benchmarks.loop_samples import known_by, moment_of, samples_of
from training.dataset import Row
from training.gate import GateOptions
from training.job.options import JobOptions
from training.job.run import JobHooks, JobReport, run_job
from training.parts.part import PartContext, TrainablePart
from training.parts.recommender_part import RecommenderPart
from training.parts.sentiment_part import SentimentPart
from training.parts.trunk_part import TrunkPart
from training.recommender.train import RecommenderTraining
from worker.embedded.shop.records import SimulatedEvent
from worker.embedded.shop.simulated_shop import START, SimulatedShop
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import Event
from worker.topics.sample_export import write_samples
from worker.topics.sample_set import SampleSet

DAYS = 30
_NAMES = {"trunk": "search"}  # the simulated month has no answered questions


@dataclass(frozen=True, slots=True)
class Month:
    """The size of the experiment."""

    events: int = 24_000
    every_days: int = 10
    shoppers: int = 150
    products: int = 150
    seed: int = 11
    trunk: bool = True  # also retrain the text trunk, and so search


def run_month(month: Month) -> None:
    """Print the quality of each release on the days after it, and of the first one on the same."""
    shop = SimulatedShop(month.seed, product_count=month.products, shopper_count=month.shoppers)
    samples = list(month_samples(shop, month.events))
    with tempfile.TemporaryDirectory(prefix="shopstream-month-") as folder:
        _run(shop, samples, month, Path(folder))


def _run(shop: SimulatedShop, samples: list[Sample], month: Month, room: Path) -> None:
    store = ReleaseStore(room / "store")
    (room / "base").mkdir()
    base = current = publish_folder(store, "", room / "base")
    write_products(shop, room / "samples")
    network = {"width": 32, "blocks": 1, "heads": 1, "hidden": 64}
    training = RecommenderTraining(time_limit_s=60.0)
    products = room / "samples" / "products.jsonl"
    parts: tuple[TrainablePart, ...] = (
        SentimentPart(),
        RecommenderPart(products, training, **network),
    )
    if month.trunk:
        parts = (*parts, TrunkPart(products, bound=parts))
    options = JobOptions(
        room / "samples", room / "work", products=products, max_tokens=64, min_train=100,
        min_new=40,
        gate=GateOptions(min_cases=60, false_pass_rate=GateOptions().false_pass_rate / len(parts)),
    )  # fmt: skip
    for day in range(month.every_days, DAYS, month.every_days):
        moment = START + timedelta(days=day)
        found = known_by(samples, moment)
        write_samples(found, room / "samples")
        promoted: list[str] = []
        hooks = JobHooks(lambda: None, lambda new, old: promoted.append(new))  # noqa: B023
        report = run_job(options, store, current, parts, hooks)
        current = report.release_id or current
        tell(f"day {day}", report)
        until = moment + timedelta(days=month.every_days)
        future = [one for one in samples if moment <= moment_of(one) < until]
        passed = [one.part for one in report.decisions if one.passed]
        for part in parts:
            _print(part, store, base, current, found, future, day, passed, options)


def tell(when: str, report: JobReport) -> None:
    """Say on standard error what a job decided, part by part, and why."""
    for one in report.decisions:
        said = "passed" if one.passed else f"refused: {'; '.join(one.reasons)}"
        print(f"{when}: {one.part} {said}", file=sys.stderr)
    for name, why in report.skipped.items():
        print(f"{when}: {name} not trained: {why}", file=sys.stderr)


def _print(
    part: TrainablePart,
    store: ReleaseStore,
    base: str,
    current: str,
    found: SampleSet,
    future: list[Sample],
    day: int,
    passed: list[str],
    options: JobOptions,
) -> None:
    known = [{**row, "kind": kind} for kind, row in found.kept() if kind in part.kinds]
    tested: list[Row] = [one.model_dump() for one in future if one.kind in part.kinds]
    if not tested:
        return
    first, now = (
        part.evaluate(
            PartContext(folder, options.work, max_tokens=options.max_tokens),
            [part.standing(folder)], known, tested,
        )[0]
        for folder in map(store.fetch, (base, current))
    )  # fmt: skip
    value = mean_estimate(now.values[now.primary])
    gain = paired_difference(now.values[now.primary], first.values[first.primary])
    print_figure(
        f"month_{_NAMES.get(part.name, part.name)}_{now.primary}", value.value, "share",
        peer=("the first release", float(first.values[first.primary].mean())),
        day=day, low=value.low, high=value.high, cases=value.cases,
        gain=[gain.value, gain.low, gain.high], released=passed,
    )  # fmt: skip


def month_samples(shop: SimulatedShop, count: int) -> Iterator[Sample]:
    """Yield the samples of a month's events, as the worker makes them."""
    events = shop.events(START, rate=count / (DAYS * 86_400))
    return samples_of(islice(_decoded(events), count))


def _decoded(events: Iterator[SimulatedEvent]) -> Iterator[Event | InvalidEvent]:
    limits = EventLimits()
    for number, event in enumerate(events):
        at_ms = round(event.occurred_at.timestamp() * 1000)
        record = RawRecord("month", 0, number, event.key, event.value, at_ms)
        yield decode_event(event.kind, record, limits)


def write_products(shop: SimulatedShop, folder: Path) -> Path:
    """Write the shop's catalogue as the export does; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "products.jsonl"
    lines = [event.value.decode() for event in shop.catalogue() if event.value is not None]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert json.loads(lines[0])["product_id"]
    return path
