"""Options that the commands record, replay and why share."""

from __future__ import annotations

from datetime import datetime

import click


def moment_ms(text: str | None) -> int | None:
    """Read an RFC 3339 time as ms since 1970; wrong usage where it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time such as 2025-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no zone: write 2025-01-31T12:00:00Z")
    return round(moment.timestamp() * 1000)


def duration_s(text: str | None) -> float | None:
    """Read `90`, `90s`, `15m`, `36h` or `7d` as seconds; wrong usage where it is none."""
    if text is None:
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no span such as 90s, 15m, 36h or 7d") from error
    if not seconds > 0:
        raise click.BadParameter(f"{text!r} must be above 0")
    return seconds
