"""`shopstream releases`: what was released, what serves, and how to change that."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import click
from rich.console import Console

from worker.commands.release_compare import compare
from worker.commands.release_views import ReleaseRow, release_table, release_view
from worker.settings import Settings
from worker.store.release_reports import read_reports_of
from worker.store.results import CurrentRelease
from worker.topics.release_moves import open_store, promote, read_pointer, roll_back, try_candidate

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group("releases")
def command() -> None:
    """List, show, promote and roll back releases; SHOPSTREAM_RELEASES_URL names their store."""


@command.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List all releases, oldest first: which serves, and what the gate said."""
    settings = Settings()
    store = open_store(settings)
    manifests, faults = store.releases()
    pointer = asyncio.run(read_pointer(settings))
    rows = [ReleaseRow.of(manifest, pointer, store) for manifest in manifests]
    if as_json:
        click.echo(json.dumps({"releases": [row.as_json() for row in rows], "unreadable": faults}))
    else:
        Console().print(release_table(rows))
    for fault in faults:
        click.echo(f"shopstream: {fault}", err=True)


@command.command()
@click.argument("release_id", required=False)
@_JSON
def show(release_id: str | None, as_json: bool) -> None:
    """Show a release (the current one without RELEASE_ID).

    Its parts and what they were trained on, its parents, metrics, the gate's decision with all
    numbers, whether forgotten shoppers are among those it was trained on, and which workers serve
    it or refused to.
    """
    settings = Settings()
    store = open_store(settings)
    pointer = asyncio.run(read_pointer(settings))
    if release_id is None:
        if pointer is None or not pointer.url:
            raise click.UsageError("No release is current: name one of `shopstream releases list`.")
        release_id = pointer.release
    row = ReleaseRow.of(store.manifest(release_id), pointer, store)
    workers, refused = asyncio.run(read_reports_of(settings, release_id))
    if as_json:
        reports = {
            "served_by": [worker.process_id for worker in workers],
            "refused": refused.model_dump() if refused is not None else None,
        }
        click.echo(json.dumps(row.as_json(whole=True) | reports, ensure_ascii=False))
    else:
        Console().print(release_view(row))
        names = ", ".join(worker.process_id for worker in workers) or "no worker"
        click.echo(f"served by {names}")
        if refused is not None:
            click.secho(f"refused by {refused.process_id}: {refused.reason}", fg="red")


@command.command("promote")
@click.argument("release_id")
@click.option(
    "--share", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="Only to this share of the shoppers, beside the current release (an A/B test).",
)  # fmt: skip
@_JSON
def promote_(release_id: str, share: float | None, as_json: bool) -> None:
    """Make RELEASE_ID the current release, whatever the gate said of it.

    The workers load it beside what they serve and change between two batches.
    """
    settings = Settings()
    if share is None:
        now = asyncio.run(promote(settings, release_id))
        _tell(now, f"{now.release} is current.", as_json)
    else:
        now = asyncio.run(try_candidate(settings, release_id, share))
        _tell(
            now, f"{release_id} serves {share:.1%} of the shoppers beside {now.release}.", as_json
        )


@command.command("rollback")
@_JSON
def rollback(as_json: bool) -> None:
    """End a running A/B test; where none runs, bring the release before the current one back."""
    settings = Settings()
    before = asyncio.run(read_pointer(settings))
    now = asyncio.run(roll_back(settings))
    if before is not None and before.candidate is not None:
        _tell(now, f"{before.candidate} is taken back; {now.release} serves all.", as_json)
    else:
        _tell(now, f"{now.release} is current again.", as_json)


@command.command()
@click.argument("folder", type=_FOLDER)
@click.option("--name", default="", help="Name of the release; default: the trunk's.")
@click.option(
    "--head", "heads", multiple=True, metavar="TASK=FOLDER",
    help="A head, such as sentiment=heads/shop; may stand several times.",
)  # fmt: skip
@click.option("--recommender", type=_FOLDER, help="A trained recommender.")
@_JSON
def publish(
    folder: Path, name: str, heads: tuple[str, ...], recommender: Path | None, as_json: bool
) -> None:
    """Bring FOLDER into the store: a whole release, or a trunk with the parts named.

    Nothing serves it before it is promoted.
    """
    from models.releases.publish import publish_folder

    parts = {}
    for head in heads:
        task, mark, path = head.partition("=")
        if not (task and mark and Path(path).is_dir()):
            raise click.UsageError(f"{head!r} is not TASK=FOLDER.")
        parts[task] = Path(path)
    store = open_store(Settings())
    with tempfile.TemporaryDirectory(prefix="shopstream-") as room:
        release_id = publish_folder(
            store, folder, Path(room), name=name, heads=parts, recommender=recommender
        )
    if as_json:
        click.echo(json.dumps({"release_id": release_id, "url": store.url}))
    else:
        click.echo(f"{release_id} stands in {store.url}.")


command.add_command(compare)


def _tell(pointer: CurrentRelease, sentence: str, as_json: bool) -> None:
    click.echo(pointer.model_dump_json() if as_json else sentence)
