"""The learning loop: what the gate lets pass, and how quality goes over a month.

    python -m tests.benchmarks.bench_loop gate [--tries 100] [--nulls 200]
    python -m tests.benchmarks.bench_loop month [--events 24000] [--every-days 10] [--no-trunk]
    python -m tests.benchmarks.bench_loop weeks [--households 100] [--train-s 120]

`gate`: 100 poisoned candidates of each kind against a trained sentiment head, and null candidates
(trained likewise on other reviews, so that neither is better); each trial draws its reviews anew.
Skips, saying so, where the optional data is absent.

`month`: the simulated shop's samples of 30 days, a retraining job every few days from the packaged
models on; each release is judged on the days after it, beside the first release on the same days.

`weeks`: the same on Complete Journey, a job a week from week 33 on, judged by replay; skips, too.
"""

from __future__ import annotations

import argparse
import logging
import sys

import numpy as np
import torch

from models.metrics import share_estimate
from tests.benchmarks.figures import print_figure
from tests.benchmarks.gate_trials import (
    POISONS,
    Draw,
    null,
    passes,
    read_real_reviews,
    train,
)
from tests.benchmarks.loop_journey import Weeks, run_weeks
from tests.benchmarks.loop_month import Month, run_month
from training.gate import FALSE_PASS_RATE


def gate(tries: int, nulls: int) -> None:
    """Print how many poisoned candidates are refused and how often a null one passes."""
    reviews = read_real_reviews(2_400)
    generator = np.random.default_rng(20_250_301)
    for name, poison in POISONS.items():
        refused = 0
        for seed in range(tries):
            draw = Draw.of(reviews, generator)
            current = train(reviews, draw.first, seed)
            refused += not passes(poison(reviews, draw, seed), current, reviews, draw)
        print_figure(
            f"gate_refused_{name.replace(' ', '_')}", refused, f"of {tries}", goal=f"{tries}"
        )
    passed = 0
    for seed in range(nulls):
        draw = Draw.of(reviews, generator)
        current = train(reviews, draw.first, seed)
        passed += passes(null(reviews, draw, seed), current, reviews, draw)
    rate = share_estimate(passed, nulls)
    print_figure(
        "gate_null_pass_rate", rate.value, "share", goal=f"<= {FALSE_PASS_RATE}",
        interval=[round(rate.low, 4), round(rate.high, 4)], cases=rate.cases,
    )  # fmt: skip


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=["gate", "month", "weeks"])
    parser.add_argument("--tries", type=int, default=100, help="poisoned candidates of each kind")
    parser.add_argument("--nulls", type=int, default=200, help="null candidates")
    parser.add_argument("--events", type=int, default=Month().events, help="of the month")
    parser.add_argument(
        "--every-days", type=int, default=Month().every_days, help="between two jobs"
    )
    parser.add_argument("--no-trunk", action="store_true", help="leave search as it is: cheaper")
    parser.add_argument("--households", type=int, default=100, help="of the weeks; 0: all")
    parser.add_argument("--train-s", type=float, default=120.0, help="of each job of the weeks")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    torch.set_num_threads(options.threads)
    if "gate" in options.parts:
        gate(options.tries, options.nulls)
    if "month" in options.parts:
        run_month(Month(options.events, options.every_days, trunk=not options.no_trunk))
    if "weeks" in options.parts:
        run_weeks(Weeks(options.households, train_s=options.train_s))


if __name__ == "__main__":
    main()
