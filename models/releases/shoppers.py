"""Which shoppers and samples a part of a release was trained on, kept small and hard to read.

`lineage/<part>.shoppers` holds 7 bytes a shopper: 5 bytes of a hash of the pseudonym, and the day
of the shopper's oldest sample. The pseudonym is itself a keyed hash, so the file names nobody to
whoever lacks the key; with the key one can ask about a shopper one knows, which is what a forget
request needs. 40 bits are a compromise: fewer would hide better, but mark releases by mistake (one
forgotten shopper is taken for one of a million with probability 1e-6).

`lineage/<part>.samples` holds 8 bytes a sample, so that a test can tell what was learnt by heart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from models.releases.manifest import ManifestUnreadable

_MARK_BYTES, _DAY_BYTES, _SAMPLE_BYTES = 5, 2, 8
_SHOPPER_BYTES = _MARK_BYTES + _DAY_BYTES
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shopper_mark(pseudonym: str) -> str:
    """Return the 10 hex digits under which a pseudonym stands in a release."""
    return hashlib.sha256(pseudonym.encode()).hexdigest()[: 2 * _MARK_BYTES]


def shoppers_file(part: str) -> str:
    """Return the name of a part's shopper list in the lineage folder."""
    return f"{part}.shoppers"


def samples_file(part: str) -> str:
    """Return the name of a part's sample list in the lineage folder."""
    return f"{part}.samples"


def encode_shoppers(oldest: Mapping[str, datetime]) -> bytes:
    """Return the list of pseudonyms with the time of each one's oldest sample."""
    rows = {shopper_mark(user): day_of(moment) for user, moment in oldest.items()}
    return b"".join(
        bytes.fromhex(mark) + rows[mark].to_bytes(_DAY_BYTES, "little") for mark in sorted(rows)
    )


def decode_shoppers(content: bytes) -> dict[str, int]:
    """Return mark -> day of the oldest sample (days since 1970); raises ManifestUnreadable."""
    if len(content) % _SHOPPER_BYTES:
        raise ManifestUnreadable("a release's list of shoppers is cut: publish the release again.")
    return {
        content[at : at + _MARK_BYTES].hex(): int.from_bytes(
            content[at + _MARK_BYTES : at + _SHOPPER_BYTES], "little"
        )
        for at in range(0, len(content), _SHOPPER_BYTES)
    }


def merge_shoppers(first: bytes, second: bytes) -> bytes:
    """Return both lists as one: a part that went on from its parent's weights knows both."""
    merged = decode_shoppers(first)
    for mark, day in decode_shoppers(second).items():
        merged[mark] = min(day, merged.get(mark, day))
    return b"".join(
        bytes.fromhex(mark) + merged[mark].to_bytes(_DAY_BYTES, "little") for mark in sorted(merged)
    )


def encode_samples(sample_ids: Iterable[str]) -> bytes:
    """Return the list of sample ids."""
    hashes = {hashlib.sha256(one.encode()).digest()[:_SAMPLE_BYTES] for one in sample_ids}
    return b"".join(sorted(hashes))


def is_among(sample_ids: Iterable[str], content: bytes) -> NDArray[np.bool_]:
    """Return for each sample id whether it stands in the list (N,)."""
    if len(content) % _SAMPLE_BYTES:
        raise ManifestUnreadable("a release's list of samples is cut: publish the release again.")
    known = np.frombuffer(content, dtype=">u8")
    asked = np.array(
        [int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big") for one in sample_ids],
        dtype=np.uint64,
    )
    return np.isin(asked, known)


def merge_samples(first: bytes, second: bytes) -> bytes:
    """Return both lists of samples as one."""
    hashes = {
        content[at : at + _SAMPLE_BYTES]
        for content in (first, second)
        for at in range(0, len(content), _SAMPLE_BYTES)
    }
    return b"".join(sorted(hashes))


def day_of(moment: datetime) -> int:
    """Return the days since 1970, as they stand in a list of shoppers."""
    return min(max((moment.astimezone(UTC) - _EPOCH).days, 0), (1 << 8 * _DAY_BYTES) - 1)
