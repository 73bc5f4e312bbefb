"""`shopstream topics`: the topics of the design, created, checked, listed."""

from __future__ import annotations

import asyncio

import click

from worker.settings import Settings
from worker.topics.layout import check_topics, create_topics, list_topics


@click.group("topics")
def command() -> None:
    """Create, check and list the topics."""


@command.command()
def create() -> None:
    """Create every topic that is missing; what stands is left as it is."""
    created = asyncio.run(create_topics(Settings()))
    click.echo(f"Created {', '.join(created)}." if created else "All topics stand already.")


@command.command()
def check() -> None:
    """Fail when a topic is missing or the event topics have unequal partition counts."""
    counts = asyncio.run(check_topics(Settings()))
    click.echo(f"All {len(counts)} topics stand and fit together.")


@command.command("list")
def list_() -> None:
    """List every topic with its partition count."""
    for topic, count in asyncio.run(list_topics(Settings())).items():
        click.echo(f"{topic}\t{count or 'missing'}")
