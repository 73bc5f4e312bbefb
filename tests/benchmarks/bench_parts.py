"""What each part of the retraining job costs, and what it gains: the simulated shop's samples.

    python -m tests.benchmarks.bench_parts [--events 12000] [--parts sentiment,recommender,trunk]
        [--lora-rank 0] [--threads 1]

One job on a month of samples, from the packaged models. About ten minutes on one thread with all
parts; `cost_…_s` is CPU time of training and judging, the catalogue's vectors included.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from models.releases.publish import publish_folder
from models.releases.store import ReleaseStore
from tests.benchmarks.figures import print_figure
from tests.benchmarks.loop_month import month_samples, write_products
from training.guards import GateOptions
from training.job.options import JobOptions
from training.job.run import JobHooks, run_job
from worker.commands.retraining import PartOptions, make_parts
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.topics.sample_export import write_samples
from worker.topics.sample_set import SampleSet


def measure(names: Sequence[str], options: argparse.Namespace) -> None:
    """Print the cost of each part, trained and judged alone from the same release."""
    shop = SimulatedShop(11, product_count=options.products, shopper_count=options.shoppers)
    found = SampleSet()
    for sample in month_samples(shop, options.events):
        found.add(sample.model_dump_json().encode())
    with tempfile.TemporaryDirectory(prefix="shopstream-parts-") as folder:
        room = Path(folder)
        write_samples(found, room / "samples")
        products = write_products(shop, room / "samples")
        (room / "base").mkdir()
        store = ReleaseStore(room / "store")
        base = publish_folder(store, "", room / "base")
        choices = PartOptions(time_limit_s=300.0, alpha=options.alpha, lora_rank=options.lora_rank)
        for part in make_parts(names, products, choices):
            job = JobOptions(
                room / "samples", room / f"work-{part.name}", products, threads=options.threads,
                max_tokens=256, min_new=1, gate=GateOptions(min_cases=60),
            )  # fmt: skip
            started_s, used_s = time.monotonic(), time.process_time()
            report = run_job(job, store, base, [part], JobHooks(lambda: None, lambda *_: None))
            _print(part.name, report, time.process_time() - used_s, time.monotonic() - started_s)


def _print(name: str, report: object, used_s: float, took_s: float) -> None:
    from training.job.run import JobReport

    assert isinstance(report, JobReport)
    if not report.decisions:
        print_figure(f"cost_{name}_s", 0.0, "s", skipped=report.skipped[name])
        return
    decision = report.decisions[0]
    primary = decision.primary
    print_figure(
        f"cost_{name}_s", round(used_s, 1), "s of one CPU", wall_s=round(took_s, 1),
        cases=decision.test_slice.cases, passed=decision.passed, reasons=list(decision.reasons),
        gain=None if primary is None else str(primary.difference),
        before=None if primary is None else round(primary.current.value, 4),
        after=None if primary is None else round(primary.candidate.value, 4),
        guards={one.metric: round(one.difference.value, 4) for one in decision.guards},
    )  # fmt: skip


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="sentiment,recommender,trunk")
    parser.add_argument("--events", type=int, default=12_000, help="of a month")
    parser.add_argument("--products", type=int, default=150)
    parser.add_argument("--shoppers", type=int, default=150)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--lora-rank", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    torch.set_num_threads(options.threads)
    measure(options.parts.split(","), options)


if __name__ == "__main__":
    main()
