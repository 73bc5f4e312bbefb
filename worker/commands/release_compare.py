"""`shopstream releases compare`: the arms of an A/B trial, with intervals."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.commands.progress import ProgressLine
from worker.settings import Settings
from worker.topics.trial_outcomes import Comparison, TrialOutcomes
from worker.topics.trial_reading import read_trial


@click.command("compare")
@click.option("--candidate", help="Release of a trial that is over; needs --share and --since.")
@click.option("--share", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True))
@click.option("--since", type=click.DateTime(), help="When the trial began, UTC.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare(
    candidate: str | None, share: float | None, since: datetime | None, as_json: bool
) -> None:
    """Compare the arms of the running A/B trial by what their shoppers did since it began.

    Reads the searches, purchases and returns that Kafka still holds. Each shopper is one case, in
    the arm that served it; differences are candidate less current, with 95 % intervals (bootstrap
    over shoppers).
    """
    if candidate is not None and (share is None or since is None):
        raise click.UsageError("--candidate needs --share and --since.")
    began = since.replace(tzinfo=UTC) if since is not None else None
    with ProgressLine("events") as progress:
        outcomes, candidate, share, began = asyncio.run(
            read_trial(
                Settings(), candidate=candidate, share=share, since=began, progress=progress.update
            )
        )
    comparisons = outcomes.compare()
    if as_json:
        click.echo(json.dumps(_document(outcomes, candidate, share, began, comparisons)))
        return
    Console().print(_table(outcomes, candidate, share, began, comparisons))
    if not comparisons:
        click.echo("One of the arms has no shopper yet: wait for more events.")
    if outcomes.sizes_are_odd:
        click.echo(
            "The sizes of the arms do not fit the share: was it changed, or --since too early?",
            err=True,
        )


def _document(
    outcomes: TrialOutcomes,
    candidate: str,
    share: float,
    began: datetime,
    comparisons: list[Comparison],
) -> dict[str, object]:
    return {
        "candidate": candidate,
        "share": share,
        "since": began.isoformat(),
        "shoppers": {arm: outcomes.shoppers(arm) for arm in ("current", "candidate")},
        "sizes_are_odd": outcomes.sizes_are_odd,
        "metrics": [asdict(one) | {"verdict": one.verdict} for one in comparisons],
    }


def _table(
    outcomes: TrialOutcomes,
    candidate: str,
    share: float,
    began: datetime,
    comparisons: list[Comparison],
) -> Table:
    title = (
        f"{candidate} with {share:.1%} of the shoppers since {began.isoformat()}: "
        f"{outcomes.shoppers('candidate'):,} shoppers, "
        f"{outcomes.shoppers('current'):,} on the current release"
    )
    table = Table(title=Text(title), title_justify="left")
    for name in ("metric", "current", "candidate", "difference", "candidate is"):
        table.add_column(name, overflow="fold")
    for one in comparisons:
        table.add_row(
            Text(f"{one.metric}: {one.meaning}"),
            str(one.current), str(one.candidate), str(one.difference), one.verdict,
        )  # fmt: skip
    return table
