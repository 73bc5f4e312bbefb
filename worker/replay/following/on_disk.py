"""What grows with the log in files, so that memory does not: results, votes, guards, keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker.store.memory.growing import Growing


def _opened(path: Path | None, table: str) -> sqlite3.Connection:
    """Open a file of one table for one process, without care for crashes."""
    database = sqlite3.connect(path or "", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute(f"CREATE TABLE {table}")
    database.execute("BEGIN")
    return database


class KeysOnDisk:
    """A set of keys with a note to each, in a SQLite file."""

    def __init__(self, path: Path | None = None) -> None:
        """Begin empty; without a path in a temporary file that is gone when closed."""
        self._database = _opened(path, "keys (key TEXT PRIMARY KEY, note TEXT) WITHOUT ROWID")

    def add(self, key: str, note: str = "") -> bool:
        """Put a key; return whether it is new."""
        done = self._database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, note))
        return done.rowcount > 0

    def __contains__(self, key: str) -> bool:
        """Say whether the key was put."""
        found = self._database.execute("SELECT 1 FROM keys WHERE key = ?", (key,))
        return found.fetchone() is not None

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield keys and notes, sorted by key; none may be put meanwhile."""
        yield from self._database.execute("SELECT key, note FROM keys ORDER BY key")

    def close(self) -> None:
        """Let the file go."""
        self._database.close()


class RecordsOnDisk(MutableMapping[str, bytes]):
    """Key -> JSON in a SQLite file that lives as long as the replay."""

    def __init__(self, path: Path | None = None) -> None:
        """Begin empty; without a path in a temporary file that is gone when closed."""
        self._database = _opened(path, "records (key TEXT PRIMARY KEY, value BLOB)")

    def __getitem__(self, key: str) -> bytes:
        """Return a result; raises KeyError."""
        row = self._database.execute("SELECT value FROM records WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: str, value: bytes) -> None:
        """Put a result."""
        self._database.execute("INSERT OR REPLACE INTO records VALUES (?, ?)", (key, value))

    def __delitem__(self, key: str) -> None:
        """Drop a result; raises KeyError."""
        found = self._database.execute("DELETE FROM records WHERE key = ?", (key,))
        if not found.rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, sorted."""
        last = ""
        while True:
            rows = self._database.execute(
                "SELECT key FROM records WHERE key > ? ORDER BY key LIMIT 1000", (last,)
            ).fetchall()
            if not rows:
                return
            for (key,) in rows:
                yield key
            last = rows[-1][0]

    def __len__(self) -> int:
        """Return the number of results."""
        return int(self._database.execute("SELECT count(*) FROM records").fetchone()[0])

    def close(self) -> None:
        """Let the file go."""
        self._database.close()


class OwnedOnDisk:
    """Shoppers' keys in a SQLite file."""

    def __init__(self, path: Path | None = None) -> None:
        """Begin empty; without a path in a temporary file that is gone when closed."""
        columns = "user TEXT, key TEXT, PRIMARY KEY (user, key)"
        self._database = _opened(path, f"owned ({columns}) WITHOUT ROWID")

    def add(self, user_id: str, key: str) -> None:
        """Note that the key is the shopper's."""
        self._database.execute("INSERT OR IGNORE INTO owned VALUES (?, ?)", (user_id, key))

    def of(self, user_id: str) -> Sequence[str]:
        """Return the shopper's keys."""
        found = self._database.execute("SELECT key FROM owned WHERE user = ?", (user_id,))
        return [key for (key,) in found.fetchall()]

    def discard(self, user_id: str, key: str) -> None:
        """Note that the key is gone."""
        self._database.execute("DELETE FROM owned WHERE user = ? AND key = ?", (user_id, key))

    def close(self) -> None:
        """Let the file go."""
        self._database.close()


@contextmanager
def growing_on_disk(folder: Path) -> Iterator[Growing]:
    """Yield what a `MemoryStore` needs to keep its size, in files of a folder."""
    results, votes = (RecordsOnDisk(folder / f"{name}.sqlite") for name in ("results", "votes"))
    counted, owned = KeysOnDisk(folder / "counted.sqlite"), OwnedOnDisk(folder / "owned.sqlite")
    try:
        yield Growing(results, votes, counted, owned)
    finally:
        for one in (results, votes, counted, owned):
            one.close()
