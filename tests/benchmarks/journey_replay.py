"""Complete Journey replayed: a recommender learnt from weeks 1 to 32 against baselines after."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks.bench_stream import say
from tests.benchmarks.figures import print_figure, shared_file
from worker.replay.recordings.public import EventFile, parse_files
from worker.replay.report.page import write_report
from worker.replay.run import run_replay
from worker.replay.sources import ReplayJob
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MAPS = ROOT / "docs" / "maps"
JUDGE_FROM = "2017-08-07T00:00:00-04:00"  # the first day of week 33
LEARNT_WEEKS = 32


def add_journey_options(parser: argparse.ArgumentParser) -> None:
    """Add what is chosen of this benchmark."""
    parser.add_argument("--households", type=int, default=100, help="of Complete Journey; 0: all")
    parser.add_argument(
        "--model", default="", help="text trunk of Complete Journey; empty: MiniLM, or null"
    )
    parser.add_argument("--release", nargs="*", default=[], help="more releases to compare")
    parser.add_argument("--train-s", type=int, default=300, help="seconds the recommender learns")
    parser.add_argument("--report", type=Path, help="write the comparison as HTML, too")
    parser.add_argument("--journal", type=Path, help="go on from here when cut short")


def bench_journey(options: argparse.Namespace) -> None:
    """Print the table of releases on Complete Journey."""
    folder = ("data", "recommendation", "complete-journey")
    source = shared_file(*folder, "transactions_weeks_01_40.parquet")
    products = shared_file(*folder, "products.parquet")
    learnt = _learnt(source, options)
    with tempfile.TemporaryDirectory() as work:
        sales, sold = journey_files(source, products, Path(work), options.households)
        job = ReplayJob(
            files=parse(sales, sold),
            releases=("popularity", "content", "rules=current", *options.release),
            variants=(f"learnt:recommender={learnt}",),
            judge_from_ms=_ms(JUDGE_FROM),
            window_s=7 * 86_400.0,
            journal=options.journal,
            command="python -m tests.benchmarks.bench_replay --only journey",
        )
        settings = Settings(model=options.model, threads=1)
        document = asyncio.run(run_replay(settings, job, _shown()))
    if options.report is not None:
        write_report(document, options.report)
    _print_journey(document)
    judged = document["protocol"]
    span_ms = judged["last_ms"] - judged["judged_from_ms"]
    month = 30 * 86_400_000 / span_ms * judged["judged_seconds"]
    print_figure(
        "journey_month_s", month, "s", events=judged["events"], arms=len(document["arms"]),
        judged_events=judged["judged_events"], took_s=document["seconds"],
        households=options.households, model=options.model or "MiniLM", load=os.getloadavg()[0],
    )  # fmt: skip


def parse(sales: Path, sold: Path) -> list[EventFile]:
    """Return the job's files with their maps."""
    return parse_files(
        [f"product={sold}", f"purchase={sales}"],
        [
            f"product={MAPS / 'complete_journey_products.toml'}",
            f"purchase={MAPS / 'complete_journey_purchases.toml'}",
        ],
    )


def journey_files(source: Path, products: Path, work: Path, households: int) -> tuple[Path, Path]:
    """Write the sales of some households (0: all), a basket's rows together, and their products."""
    table = pq.read_table(source)
    known = sorted(set(table["household_id"].to_pylist()))
    if households:
        chosen = known[:: max(1, len(known) // households)]
        table = table.filter(pc.is_in(table["household_id"], pc.cast(chosen, "int64")))
    ordered = table.sort_by([("transaction_timestamp", "ascending"), ("basket_id", "ascending")])
    pq.write_table(ordered, work / "sales.parquet")
    catalogue = pq.read_table(products)
    ids = pc.cast(list(set(table["product_id"].to_pylist())), "int64")
    pq.write_table(
        catalogue.filter(pc.is_in(catalogue["product_id"], ids)), work / "products.parquet"
    )
    return work / "sales.parquet", work / "products.parquet"


def _learnt(source: Path, options: argparse.Namespace) -> Path:
    """Return a recommender that learnt weeks 1 to 32 of all households; trained once and kept."""
    folder = ROOT / ".shopstream" / f"journey-recommender-{options.train_s}s"
    if folder.is_dir():
        say(f"The recommender of an earlier run: {folder}")
        return folder
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        table = pq.read_table(source)
        table = table.filter(pc.less_equal(table["week"], LEARNT_WEEKS))
        table = table.sort_by([("transaction_timestamp", "ascending"), ("basket_id", "ascending")])
        bought = {
            "user": pc.cast(table["household_id"], pa.string()),
            "item": pc.cast(table["product_id"], pa.string()),
            "timestamp": table["transaction_timestamp"],
        }
        pq.write_table(pa.table(bought), Path(work) / "bought.parquet")
        command = [sys.executable, "-m", "worker.commands", "train", "recommender"]
        command += ["--interactions", f"{work}/bought.parquet", "--target", "visit"]
        # 54,000 items: a softmax over all of them takes eight times as long
        command += ["--loss", "sampled-softmax", "--negatives", "4096"]
        command += ["--keep-seen", "--time-limit-s", str(options.train_s)]
        command += ["--out", str(unfinished)]
        subprocess.run(command, stdout=sys.stderr, check=True)
    unfinished.rename(folder)
    return folder


def _print_journey(document: dict[str, Any]) -> None:
    table = document["recommendations"]["segments"]["all"]
    base = document["arms"][0]["name"]
    for metric, arms in table.items():
        for arm, cell in arms.items():
            print_figure(
                f"journey_{arm}_{metric}", cell["value"], metric,
                peer=(base, arms[base]["value"]), interval=[cell["low"], cell["high"]],
                cases=cell["cases"], difference=cell.get("difference"),
            )  # fmt: skip


def _shown() -> Callable[[int, int], None]:
    shown_s = [time.monotonic()]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - shown_s[0] > 15:
            shown_s[0] = time.monotonic()
            most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            say(f"{done:,} of {total:,} events, {most_mb:.0f} MB")

    return progress


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
