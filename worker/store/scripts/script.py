"""A Lua script of this package, ready for EVALSHA."""

from __future__ import annotations

import hashlib
from importlib import resources


class Script:
    """One script, with what all of them share before it."""

    def __init__(self, name: str) -> None:
        folder = resources.files(__package__)
        self.text = "\n".join(
            (folder / part).read_text(encoding="utf-8") for part in ("version.lua", name)
        )
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
