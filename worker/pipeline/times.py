"""Times as they stand in results and samples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4_096)  # all that one event makes bears the same
def rfc3339(moment_ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 in UTC, with three decimals."""
    moment = _EPOCH + timedelta(milliseconds=moment_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def milliseconds(moment: datetime) -> int:
    """Return a zoned moment as milliseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
