"""`shopstream settings`: every setting, its default and what it means."""

from __future__ import annotations

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from worker.settings import Settings

_HEAD = """# Settings

Environment variables; made from `worker/settings.py` by `shopstream settings --markdown`.

| variable | default | what it means |
|---|---|---|
"""


@click.command("settings")
@click.option("--markdown", is_flag=True, help="Print the table of docs/settings.md.")
def command(markdown: bool) -> None:
    """Print every setting; without --markdown with the value it has here, secrets masked."""
    click.echo(settings_table() if markdown else current_settings(Settings()), nl=False)


def settings_table() -> str:
    """Return docs/settings.md."""
    rows = (
        f"| `{variable_of(name)}` | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _HEAD + "".join(rows)


def current_settings(settings: Settings) -> str:
    """Return a line a setting with its present value; secrets are masked."""
    return "".join(
        f"{variable_of(name)}={'' if value is None else value}\n" for name, value in settings
    )


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"SHOPSTREAM_{name.upper()}"


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "–" if value is None or value == "" else f"`{value}`"
