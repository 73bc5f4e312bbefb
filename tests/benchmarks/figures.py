"""What benchmark commands print for machines: one JSON line a figure, on standard output."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path


def print_figure(
    figure: str,
    values: float | Sequence[float],
    unit: str,
    *,
    goal: str | None = None,
    peer: tuple[str, float] | None = None,
    **more: object,
) -> None:
    """Print a figure: the median of its runs, and the spread (greatest less least) between them.

    Args:
        values: one value, or one a run.
        goal: what was aimed at, as text such as ">= 0.6".
        peer: name and value of what the figure is compared with, measured in the same run.
        more: further members, such as a confidence interval or the number of cases.
    """
    runs = [float(values)] if isinstance(values, int | float) else [float(v) for v in values]
    line = {
        "figure": figure,
        "value": round(statistics.median(runs), 6),
        "unit": unit,
        "goal": goal,
        "peer": {"name": peer[0], "value": round(peer[1], 6)} if peer else None,
        "runs": len(runs),
        "spread": round(max(runs) - min(runs), 6),
        **more,
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


def shared_file(*parts: str) -> Path:
    """Return a path in the optional folder of public data, or end with one sentence (status 0).

    The folder is `SHOPSTREAM_SHARED_DATA`, or `../shared` beside the checkout.
    """
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    path = Path(os.environ.get("SHOPSTREAM_SHARED_DATA") or beside).joinpath(*parts)
    if not path.exists():
        name = "/".join(parts)
        print(
            f"skipped: needs {name} of the shared data; set SHOPSTREAM_SHARED_DATA", file=sys.stderr
        )
        sys.exit(0)
    return path
