"""`shopstream demo`: everything embedded, in the terminal."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import cast

import click
import orjson

from worker.embedded.demo.run import DemoOptions, run_demo
from worker.embedded.shop.vocabulary import ShopLocale
from worker.page.live_view import write_svg
from worker.page.terminal import Terminal

_DEFAULTS = DemoOptions()


@click.command("demo")
@click.option("--locale", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="End after so much live traffic; without it Ctrl-C ends the demo.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True, max=10_000),
    default=_DEFAULTS.rate,
    show_default=True,
    help="Events a second.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=_DEFAULTS.seed,
    show_default=True,
    help="Another seed is another shop.",
)
@click.option(
    "--products",
    type=click.IntRange(min=1, max=100_000),
    default=_DEFAULTS.product_count,
    show_default=True,
)
@click.option(
    "--shoppers",
    type=click.IntRange(min=1, max=99_999),
    default=_DEFAULTS.shopper_count,
    show_default=True,
)
@click.option(
    "--loop/--no-loop",
    default=True,
    show_default=True,
    help="Retrain on the stream's reviews, release and swap in what is better.",
)
@click.option("--json", "as_json", is_flag=True, help="No live view; progress as plain lines.")
@click.option(
    "--svg",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the last picture of the live view to this file.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the logs of broker, Redis and worker in this folder.",
)
def command(
    locale: str,
    seconds: float | None,
    rate: float,
    seed: int,
    products: int,
    shoppers: int,
    loop: bool,
    as_json: bool,
    svg: Path | None,
    logs: Path | None,
) -> None:
    """Start a broker, a Redis, a simulated shop and a worker on real models, and watch.

    After about a minute the first release that was trained on the shop's own reviews comes in
    (shopstream retrain, which needs 180 of them), if it is better beyond doubt; the view shows
    how many tags were right before and after.

    Nothing need be installed or configured beside shopstream[demo]: the servers are its own, on
    free ports, and end with it. The last line on standard output is one JSON object: events sent
    and answered by kind, dead letters, lost, milliseconds from event to Redis (p50, p99), the
    releases with the share of right tags before and after.
    """
    options = DemoOptions(cast(ShopLocale, locale), seconds, rate, seed, products, shoppers, loop)
    folder = logs or Path(tempfile.mkdtemp(prefix="shopstream-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    with Terminal(plain=as_json) as terminal:
        try:
            report = run_demo(
                options,
                folder,
                temporary=logs is None,
                say=terminal.say,
                show=terminal.show,
            )
        except KeyboardInterrupt:
            report = None
        if svg is not None and report is not None:
            write_svg(terminal.figures, svg)
        if report is None:
            terminal.say("Stopped before the shop opened.")
    if logs is None:  # after a failure they stay: the message names them
        shutil.rmtree(folder, ignore_errors=True)
    if report is not None:
        click.echo(orjson.dumps(report))
