"""A group that knows its commands by name and imports one only when it is called.

So `shopstream get` does not wait for torch, and a group's file is nothing but the list of its
commands.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`commands_help` is name -> one line of help; `prefix` + name is the module, - becomes _."""

    def __init__(self, *args: Any, commands_help: Mapping[str, str], prefix: str, **known: Any):
        super().__init__(*args, **known)
        self._help = commands_help
        self._prefix = prefix

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the list."""
        return list(self._help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return its `command`."""
        if cmd_name not in self._help:
            return None
        module = importlib.import_module(self._prefix + cmd_name.replace("-", "_"))
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._help.items()))
