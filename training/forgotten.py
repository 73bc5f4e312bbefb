"""Who is forgotten, as an export of samples says, under the marks that stand in releases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.releases.shoppers import shopper_mark
from training.data.rows import UnreadableData


def forgotten_until(samples: Path) -> dict[str, datetime]:
    """Return mark -> until when the shopper is forgotten, from `<samples>/forget/`.

    Raises UnreadableData: to go on without would be to use what must not be used.
    """
    until: dict[str, datetime] = {}
    for path in sorted((samples / "forget").glob("date=*/*.parquet")):
        try:
            rows = pq.read_table(path, columns=["user", "occurred_at"], partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableData(
                f"{path} cannot be read ({error}): run `shopstream samples export` again"
            ) from error
        for row in rows.to_pylist():
            mark = shopper_mark(row["user"])
            moment = datetime.fromisoformat(row["occurred_at"]).astimezone(UTC)
            until[mark] = max(moment, until.get(mark, moment))
    return until
