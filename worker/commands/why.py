"""`shopstream why`: what made a result."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, cast

import click

from worker.commands.progress import ProgressLine
from worker.replay.recordings.faults import Faults, OnError
from worker.replay.recordings.record import record
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.replay.why import explain, why_lines
from worker.settings import Settings


@click.command("why")
@click.argument("event_id")
@click.option(
    "--events", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that `shopstream record` wrote; without it the topics are read now.",
)  # fmt: skip
@click.option(
    "--release", "folders", multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a release that the batches name.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
    help="At corrupt files, missing events or batches.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    event_id: str, events: Path | None, folders: tuple[Path, ...], on_error: str, as_json: bool
) -> None:
    """Show what made the results of EVENT_ID, by replaying its moment.

    Prints the batch that took the event, the release, the shopper's history as it was known, the
    candidates with their scores, and what was written. Results name their event as `event_id`.
    """
    settings = Settings()
    releases = Releases(settings, folders)
    faults = Faults(cast(OnError, on_error))
    with tempfile.TemporaryDirectory(prefix="shopstream-why-") as folder:
        found = asyncio.run(
            _explain(settings, events, Path(folder) / "recording", event_id, releases, faults)
        )
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for line in why_lines(found):
        click.echo(line)


async def _explain(
    settings: Settings, events: Path | None, folder: Path, event_id: str, releases: Releases,
    faults: Faults,
) -> dict[str, Any]:  # fmt: skip
    with ProgressLine("events") as progress:
        if events is None:
            events = folder
            await record(settings, folder, progress=progress.update)
        recording = Recording.open(events, faults)
        return await explain(settings, recording, event_id, releases, progress.update)
