"""`shopstream dead-letters`: list, show and resend what could not become an event."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from worker.events.dead_letter import DeadLetter
from worker.settings import Settings
from worker.topics.dead_letters import find_dead_letter, read_dead_letters, resend_dead_letter

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("dead-letters")
def command() -> None:
    """List, show and resend what could not become an event."""


@command.command("list")
@click.option("--code", help="Only letters with this code.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_(code: str | None, as_json: bool) -> None:
    """List the dead letters, oldest first."""
    asyncio.run(_list(Settings(), code, as_json))


async def _list(settings: Settings, code: str | None, as_json: bool) -> None:
    count = 0
    async for letter in read_dead_letters(settings):
        if not isinstance(letter, DeadLetter):
            click.echo(f"shopstream: {letter}", err=True)
        elif code in (None, letter.code):
            if as_json:  # written as it comes: the topic may hold more than memory does
                click.echo("," if count else "[", nl=False)
                click.echo(json.dumps(letter.model_dump(), ensure_ascii=False), nl=False)
            else:
                click.echo(f"{letter.dead_letter_id}\t{letter.code}\t{letter.reason}")
            count += 1
    if as_json:
        click.echo("]" if count else "[]")
    click.echo(f"{count} dead letters.", err=True)


@command.command()
@click.argument("letter_id")
@click.option("--json", "as_json", is_flag=True, help="Print the letter as it stands in Kafka.")
def show(letter_id: str, as_json: bool) -> None:
    """Show one dead letter with its original bytes."""
    letter = asyncio.run(find_dead_letter(Settings(), letter_id))
    if as_json:
        click.echo(letter.model_dump_json())
        return
    click.echo(f"{letter.dead_letter_id}  ({letter.kind or 'no'} event)")
    click.echo(f"{letter.code}: {letter.reason}")
    click.echo(f"key:   {_text(letter.key)}")
    click.echo(f"value: {_text(letter.value)}")
    if letter.is_cut:
        click.echo(f"       (cut; the original has {letter.value_bytes} bytes)")


@command.command()
@click.argument("letter_ids", nargs=-1, required=True)
@click.option(
    "--value",
    "value_file",
    type=_FILE,
    help="The mended event, a JSON file; without it the original goes again.",
)
def resend(letter_ids: tuple[str, ...], value_file: Path | None) -> None:
    """Send letters back to their topics, mended by --value or as they were.

    As they were helps where the fault lay elsewhere: a limit that was raised since, a clock that
    was ahead, a record without its key (it now gets the right one).
    """
    if value_file is not None and len(letter_ids) > 1:
        raise click.UsageError("--value mends one letter: name one")
    value = None if value_file is None else value_file.read_bytes().strip()
    asyncio.run(_resend(Settings(), letter_ids, value))


async def _resend(settings: Settings, letter_ids: tuple[str, ...], value: bytes | None) -> None:
    for letter_id in letter_ids:
        letter = await find_dead_letter(settings, letter_id)
        event_id = await resend_dead_letter(settings, letter, value)
        click.echo(f"Sent {event_id} to {letter.topic}.")


def _text(data: bytes | None) -> str:
    return "none" if data is None else data.decode("utf-8", "backslashreplace")
