"""`shopstream doctor`: says before a start what would stop it, and what to do."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import click
from pydantic import ValidationError

from worker.commands.doctor.finding import Finding, Status
from worker.settings import Settings

_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Check settings, Kafka, Redis, device, models and memory; status 1 if anything fails."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the findings say it in one line
    findings = examine()
    failed = sum(finding.status is Status.FAILED for finding in findings)
    if as_json:
        document = {"ok": not failed, "checks": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            mark = click.style(f"{finding.status:8}", fg=_COLOURS[finding.status])
            click.echo(f"{mark}{finding.subject:10}{finding.line}")
    if failed:
        click.echo(f"{failed} of {len(findings)} checks failed.", err=True)
        context.exit(1)


def examine() -> Sequence[Finding]:
    """Run all checks; those that need a server run side by side."""
    try:
        settings = Settings()
    except ValidationError as error:
        return [_setting_finding(dict(detail)) for detail in error.errors()]
    ready = Finding("settings", Status.OK, "every SHOPSTREAM_ variable is valid")
    return [ready, *asyncio.run(_examine(settings))]


async def _examine(settings: Settings) -> Sequence[Finding]:
    # imported here: wrong settings are told at once, before torch is loaded
    from worker.commands.doctor.kafka import check_kafka
    from worker.commands.doctor.models import check_models
    from worker.commands.doctor.redis import check_redis

    groups = await asyncio.gather(
        check_kafka(settings),
        check_redis(settings),
        asyncio.to_thread(check_models, settings),
    )
    return [finding for group in groups for finding in group]


def _setting_finding(detail: dict[str, object]) -> Finding:
    place = detail["loc"]
    name = str(place[0]) if isinstance(place, tuple) and place else ""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not name:  # a rule over several settings names them itself
        return Finding("settings", Status.FAILED, message, "see docs/settings.md")
    return Finding(
        "settings", Status.FAILED, f"SHOPSTREAM_{name.upper()}: {message}", "see docs/settings.md"
    )
