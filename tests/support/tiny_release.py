"""A small sealed release: the tiny trunk and a random sentiment head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from models.releases.folder import ReleaseParts, assemble_release, seal_release
from models.releases.manifest import ReleaseManifest
from models.text.sentiment import SentimentHead, save
from tests.support.tiny_trunk import write_tiny_trunk


def write_tiny_head(folder: Path, *, seed: int = 0, trunk_weights: str = "") -> Path:
    """Write a random sentiment head for the tiny trunk; return its folder."""
    torch.manual_seed(seed)
    head = SentimentHead(32, (1, 2), hidden=16)
    save(head, folder, name="sentiment", lineage={"trunk_weights": trunk_weights})
    return folder


def write_tiny_release(
    folder: Path,
    *,
    trunk: Path | None = None,
    seed: int = 0,
    lineage_files: Mapping[str, bytes] | None = None,
    **facts: object,
) -> ReleaseManifest:
    """Assemble and seal a release in `folder`; `seed` makes another head."""
    beside = folder.parent / f"{folder.name}-parts"
    trunk = trunk or write_tiny_trunk(beside / "tiny-shop")
    head = write_tiny_head(beside / f"head-{seed}", seed=seed)
    assemble_release(folder, ReleaseParts(trunk=trunk, heads={"sentiment": head}))
    for name, content in (lineage_files or {}).items():
        (folder / "lineage").mkdir(exist_ok=True)
        (folder / "lineage" / name).write_bytes(content)
    return seal_release(folder, ReleaseManifest.model_validate(facts), trunk=trunk)
