"""The optional folder of public data and larger models; tests skip where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2].parent / "shared"


def shared_folder(part: str) -> Path:
    """Return `part` (data, models) of the folder, or skip the test with the reason."""
    root = Path(os.environ.get("SHOPSTREAM_SHARED_DATA") or _BESIDE_CHECKOUT)
    folder = root / part
    if not folder.is_dir():
        pytest.skip(f"needs the optional folder {part} of shared data: set SHOPSTREAM_SHARED_DATA")
    return folder
