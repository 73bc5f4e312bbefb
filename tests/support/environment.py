"""The variables of this process as a deployment of a test's own would set them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest


def set_environment(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    """Set these variables and take every other setting of shopstream away, for one test."""
    for name in [name for name in os.environ if name.startswith("SHOPSTREAM_")]:
        if not name.startswith(("SHOPSTREAM_TEST", "SHOPSTREAM_CI")):
            monkeypatch.delenv(name)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
