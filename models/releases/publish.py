"""Publishing what a person hands over: a sealed release, or a trunk with heads beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.release import open_trunk
from models.releases.folder import (
    ReleaseRefused,
    assemble_release,
    parts_of,
    seal_release,
)
from models.releases.manifest import ReleaseManifest, read_manifest
from models.releases.store import ReleaseStore
from models.text.sentiment import load, packaged_head_folder

SENTIMENT = "sentiment"


def publish_folder(
    store: ReleaseStore,
    folder: Path | str,
    room: Path,
    *,
    name: str = "",
    heads: Mapping[str, Path] | None = None,
    recommender: Path | None = None,
) -> str:
    """Publish a release as it is, or make one of a trunk and parts in the empty folder `room`.

    A trunk without a sentiment head gets the packaged one that fits it. Returns the release id;
    raises ModelUnavailable.
    """
    trunk = open_trunk(folder)
    manifest = read_manifest(trunk.folder)
    if manifest is not None and manifest.release_id and not (heads or recommender or name):
        return store.publish(trunk.folder)
    chosen = {**parts_of(trunk.folder).heads, **(heads or {})}
    packaged = packaged_head_folder(trunk.weights_checksum)
    if SENTIMENT not in chosen and packaged is not None:
        chosen[SENTIMENT] = packaged
    for task, head in chosen.items():
        if task == SENTIMENT:
            require_fit(head, trunk.weights_checksum)
    parts = replace(parts_of(trunk.folder), heads=chosen)
    if recommender is not None:
        parts = replace(parts, recommender=recommender)
    target = room / "release"
    assemble_release(target, parts)
    facts = ReleaseManifest(
        name=name,
        parents=() if manifest is None or manifest.release_id is None else (manifest.release_id,),
        data={} if manifest is None else manifest.data,
        lineage=dict(trunk.lineage),
        code_version=code_version(),
    )
    seal_release(target, facts, trunk=folder)
    return store.publish(target)


def require_fit(head: Path, trunk_weights: str) -> None:
    """Raise ReleaseRefused when a sentiment head was trained on another trunk's states."""
    bound = load(head).trunk_weights
    if bound and bound != trunk_weights:
        raise ReleaseRefused(
            f"the head {head} was trained on another trunk (weights {bound[:12]}, here "
            f"{trunk_weights[:12]}): train one on this trunk with `shopstream train sentiment`."
        )


def code_version() -> str:
    """Return the version of shopstream that makes a release."""
    try:
        return version("shopstream")
    except PackageNotFoundError:
        return "unknown"
