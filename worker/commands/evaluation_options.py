"""What every evaluation of a trunk's task shares: which trunk, and how the figures are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from worker.errors import ShopstreamError

if TYPE_CHECKING:
    from models.metrics import Estimate
    from models.text_encoder import TextEncoder

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", default="", help="Trunk: folder or hub id; empty: packaged MiniLM."),
    click.option("--release", type=click.Path(exists=True, file_okay=False, path_type=Path),
                 help="Release folder, or any folder of a trained trunk, instead of --model."),
    click.option("--max-tokens", type=click.IntRange(16, 512), default=256, show_default=True),
    click.option("--threads", type=click.IntRange(min=0), default=0, help="0: torch's default."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)  # fmt: skip


def trunk_options(command: Command) -> Command:
    """Add the options that name a trunk."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_trunk(model: str, release: Path | None, max_tokens: int, threads: int) -> TextEncoder:
    """Load the trunk that the options name."""
    from models.text_encoder import TextEncoder

    if model and release is not None:
        raise ShopstreamError("name the trunk by --model or by --release, not by both")
    return TextEncoder.load(str(release) if release else model, max_tokens=max_tokens,
                            threads=threads)  # fmt: skip


def show_metrics(metrics: Mapping[str, Estimate]) -> None:
    """Print a line a metric: name, value, interval, number of cases."""
    width = max(map(len, metrics))
    for name, estimate in metrics.items():
        click.echo(f"{name:{width}}  {estimate}")
