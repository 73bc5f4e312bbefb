"""What grows with the log and not with the shop: results, votes, guards, and who owns them.

In dictionaries here; a long replay keeps the same on disk.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class KeySet(Protocol):
    """A set of texts."""

    def add(self, key: str) -> bool:
        """Put a key; return whether it is new."""
        ...


class Owned(Protocol):
    """Keys to forget with a shopper."""

    def add(self, user_id: str, key: str) -> None:
        """Note that the key is the shopper's."""
        ...

    def of(self, user_id: str) -> Sequence[str]:
        """Return the shopper's keys."""
        ...

    def discard(self, user_id: str, key: str) -> None:
        """Note that the key is gone."""
        ...


class KeysInMemory:
    """A `KeySet` in a set."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    def add(self, key: str) -> bool:
        """Put a key; return whether it is new."""
        is_new = key not in self._keys
        self._keys.add(key)
        return is_new


class OwnedInMemory:
    """`Owned` in a dictionary of sets."""

    def __init__(self) -> None:
        self._keys: dict[str, set[str]] = {}

    def add(self, user_id: str, key: str) -> None:
        """Note that the key is the shopper's."""
        self._keys.setdefault(user_id, set()).add(key)

    def of(self, user_id: str) -> Sequence[str]:
        """Return the shopper's keys."""
        return list(self._keys.get(user_id, ()))

    def discard(self, user_id: str, key: str) -> None:
        """Note that the key is gone."""
        self._keys.get(user_id, set()).discard(key)


@dataclass(frozen=True, slots=True)
class Growing:
    """All of it."""

    results: MutableMapping[str, bytes] = field(default_factory=dict)  # key without prefix -> JSON
    votes: MutableMapping[str, bytes] = field(default_factory=dict)  # review -> as in Redis
    counted: KeySet = field(default_factory=KeysInMemory)  # event ids of purchases and returns
    owned: Owned = field(default_factory=OwnedInMemory)  # results and `vote:<review>`
