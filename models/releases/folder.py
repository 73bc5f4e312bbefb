"""A release's folder: put together from parts, sealed by its manifest, and checked whole.

The root is the trunk in hub form, so `AutoModel.from_pretrained(folder)` loads it. Beside it stand
`heads/<task>/`, `recommender/`, `product_vectors/` and `lineage/`. Parts are hard-linked where the
file system allows, so an unchanged trunk costs nothing; a sealed folder is never edited.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from models.release import TRUNK_FILES, ModelUnavailable, open_trunk
from models.releases.manifest import (
    MANIFEST,
    ManifestUnreadable,
    Prefixes,
    ReleaseManifest,
    file_checksum,
    read_manifest,
)

HEADS, RECOMMENDER, PRODUCT_VECTORS, LINEAGE = "heads", "recommender", "product_vectors", "lineage"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")
_CODE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".so"})


class ReleaseRefused(ModelUnavailable):
    """A release is damaged, incompatible or too large; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class ReleaseParts:
    """Folders a release is put together from; `trunk` may be a whole release: its root is taken."""

    trunk: Path
    heads: Mapping[str, Path] = field(default_factory=dict)  # task -> folder
    recommender: Path | None = None
    product_vectors: Path | None = None
    lineage: Path | None = None


def parts_of(folder: Path) -> ReleaseParts:
    """Return the parts that stand in a release's folder, to replace some and keep the others."""
    heads = folder / HEADS
    tasks = sorted(heads.iterdir()) if heads.is_dir() else []

    def standing(name: str) -> Path | None:
        return folder / name if (folder / name).is_dir() else None

    return ReleaseParts(
        trunk=folder,
        heads={task.name: task for task in tasks if task.is_dir()},
        recommender=standing(RECOMMENDER),
        product_vectors=standing(PRODUCT_VECTORS),
        lineage=standing(LINEAGE),
    )


def assemble_release(target: Path, parts: ReleaseParts) -> None:
    """Bring the files of the parts into the new folder `target`; `seal_release` finishes it.

    Raises ModelUnavailable where the trunk is not usable, OSError where a file cannot be written.
    """
    trunk = open_trunk(parts.trunk).folder
    target.mkdir(parents=True)
    for pattern in TRUNK_FILES:
        for source in trunk.glob(pattern):
            if source.name != MANIFEST:
                link_or_copy(source, target / source.relative_to(trunk))
    folders = {f"{HEADS}/{task}": head for task, head in parts.heads.items()}
    for name in (RECOMMENDER, PRODUCT_VECTORS, LINEAGE):
        part = getattr(parts, name)
        if part is not None:
            folders[name] = part
    for place, part in folders.items():
        for path in _files(part):
            link_or_copy(part / path, target / place / path)


def seal_release(folder: Path, facts: ReleaseManifest, *, trunk: Path | str) -> ReleaseManifest:
    """Write the manifest of an assembled folder: `facts` with checksums, sizes, id and time.

    `trunk` says how states become vectors (its manifest, or its family), as for `open_trunk`;
    `facts.name` empty: the trunk's name. Raises ReleaseRefused, ModelUnavailable.
    """
    conventions = open_trunk(trunk)
    name = facts.name or conventions.name
    if not _NAME.fullmatch(name):
        raise ReleaseRefused(
            f"{name!r} cannot name a release: use letters, digits, dots, - and _ (80 at most)."
        )
    paths = _files(folder)
    manifest = facts.model_copy(
        update={
            "name": name,
            "pooling": conventions.pooling,
            "prefixes": Prefixes(
                query=conventions.query_prefix, passage=conventions.passage_prefix
            ),
            "checksums": {path: file_checksum(folder / path) for path in paths},
            "sizes_bytes": {path: (folder / path).stat().st_size for path in paths},
            "created_at": facts.created_at or datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    manifest = manifest.model_copy(update={"release_id": manifest.content_release_id()})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def check_release(folder: Path, *, max_bytes: int) -> ReleaseManifest:
    """Return the manifest of a folder all of whose files are what it says.

    Raises ReleaseRefused: no release, too large, a file is missing, changed, unlisted or may run
    code; ManifestUnreadable: another version's.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ReleaseRefused(f"{folder} is no release: it has no {MANIFEST}.")
    require_sound(manifest, str(folder), max_bytes=max_bytes)
    unlisted = sorted(set(_files(folder)) - manifest.checksums.keys())
    if unlisted:
        raise ReleaseRefused(
            f"{folder} holds {unlisted[0]}, which its manifest does not list: publish it anew."
        )
    for path, checksum in manifest.checksums.items():
        require_same(folder / path, checksum, shown=f"{path} of {manifest.release_id}")
    return manifest


def require_sound(manifest: ReleaseManifest, shown: str, *, max_bytes: int) -> None:
    """Raise ReleaseRefused unless the manifest alone speaks for a release we may load."""
    if manifest.release_id is None:
        raise ReleaseRefused(
            f"{shown} is a trunk, no release: `shopstream releases publish` makes one of it."
        )
    if manifest.release_id != manifest.content_release_id():
        raise ReleaseRefused(
            f"{shown}: the id {manifest.release_id} does not fit the checksums of its manifest, "
            "so one of them was changed: publish the release again."
        )
    if manifest.sizes_bytes.keys() != manifest.checksums.keys():
        raise ManifestUnreadable(f"{shown}: sizes and checksums list different files.")
    if manifest.total_bytes > max_bytes:
        raise ReleaseRefused(
            f"{shown} has {manifest.total_bytes:,} bytes, more than the limit of {max_bytes:,}: "
            "raise SHOPSTREAM_RELEASE_MAX_BYTES if it is meant to be so large."
        )
    code = [path for path in sorted(manifest.checksums) if Path(path).suffix in _CODE_SUFFIXES]
    if code:
        raise ReleaseRefused(f"{shown} holds {code[0]}, which could run code when it is loaded.")


def require_same(path: Path, checksum: str, *, shown: str) -> None:
    """Raise ReleaseRefused unless the file stands there with this sha256."""
    if not path.is_file():
        raise ReleaseRefused(f"{shown} is missing: publish the release again.")
    if file_checksum(path) != checksum:
        raise ReleaseRefused(f"{shown} is damaged (its checksum differs): publish it again.")


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file into its place, or copy it where the file system cannot link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _files(folder: Path) -> list[str]:
    """Return the paths of all files below a folder but its manifest, sorted."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != MANIFEST)
