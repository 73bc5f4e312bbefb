"""The table of keys, the page made from it, and the scripts agree."""

from __future__ import annotations

import re
from pathlib import Path

from worker.store.contract import ResultKind
from worker.store.key_page import redis_page
from worker.store.keys import KEY_FAMILIES, MAX_ID_BYTES, Keys, result_suffix
from worker.store.scripts.script import Script

ROOT = Path(__file__).parents[2]
NAMES = {family.name for family in KEY_FAMILIES}


def test_page_is_current() -> None:
    """docs/redis.md is what the table makes; `python -m worker.store.key_page` writes it."""
    assert (ROOT / "docs" / "redis.md").read_text(encoding="utf-8") == redis_page()


def test_scripts_use_known_keys() -> None:
    """Every key that a script builds stands in the table."""
    for script in ("apply.lua", "write.lua"):
        text = Script(script).text
        built = set(re.findall(r"prefix \.\. '(\w+):?", text)) - {"written"}
        assert built
        assert built <= NAMES


def test_names_are_apart() -> None:
    """No two families share a name, and every kind of result has its family."""
    assert len(NAMES) == len(KEY_FAMILIES)
    assert {str(kind) for kind in ResultKind} <= NAMES


def test_long_ids() -> None:
    """Ids up to the limit stand in the key as they are; longer ones by their hash, all apart."""
    assert result_suffix("query", "q" * MAX_ID_BYTES) == "query:" + "q" * MAX_ID_BYTES
    long = {result_suffix("query", "红" * n) for n in (171, 172, 173)}
    assert len(long) == 3
    assert max(map(len, long)) < 80
    assert (
        Keys("p").channel("query", "红" * 171).endswith(Keys("p").result("query", "红" * 171)[2:])
    )
