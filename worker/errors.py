"""The base of every failure a person can act on: a command prints its sentence, exits 1."""

from __future__ import annotations


class ShopstreamError(Exception):
    """An expected failure; the message is one clear sentence that says what to do."""
