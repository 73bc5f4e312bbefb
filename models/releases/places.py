"""Where releases lie: a local folder, or an object store through fsspec.

In a folder a release appears by one rename. An object store has no rename of folders: there its
manifest is written last, and what has no manifest is no release.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from models.releases.folder import ReleaseRefused, link_or_copy, require_same
from models.releases.manifest import (
    MANIFEST,
    ManifestUnreadable,
    ReleaseManifest,
    parse_manifest,
)

_PART = ".part-"  # a release on its way; never listed
_ABANDONED_AFTER_S = 86_400.0
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az"})

SameFiles = Mapping[str, str]  # sha256 -> path of a file in the place that has this content


class ReleasePlace(Protocol):
    """What a release store asks of the place it lies in. Errors: OSError."""

    def ids(self) -> list[str]:
        """Return the ids of all whole releases, sorted."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return a small file, None where there is none."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Write a small file whole or not at all."""
        ...

    def put(self, folder: Path, manifest: ReleaseManifest, same: SameFiles) -> None:
        """Store a checked folder as `manifest.release_id`; until it is whole nobody sees it."""
        ...

    def mend(self, folder: Path, manifest: ReleaseManifest) -> None:
        """Bring what is gone or damaged of a release that stands here, from a checked folder."""
        ...

    def get(self, manifest: ReleaseManifest) -> Path:
        """Return a local folder with all files the manifest lists, not yet checked."""
        ...


class LocalPlace:
    """Releases in a folder of this machine, or of a shared file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def ids(self) -> list[str]:
        """Return the ids of all whole releases, sorted."""
        return sorted(
            path.parent.name
            for path in self._root.glob(f"*/{MANIFEST}")
            if not path.parent.name.startswith(".")
        )

    def read(self, path: str) -> bytes | None:
        """Return a small file, None where there is none."""
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, content: bytes) -> None:
        """Write a small file beside its place and rename it."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{_PART}{secrets.token_hex(4)}")
        try:
            part.write_bytes(content)
            _sync(part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def put(self, folder: Path, manifest: ReleaseManifest, same: SameFiles) -> None:
        """Fill a folder beside the place and rename it; files that stand here are linked.

        Files from outside are copied, not linked: who edits one would edit the release.
        """
        part = self.new_part()
        try:
            for path, checksum in manifest.checksums.items():
                target = part / path
                if checksum in same and _is_same(self._root / same[checksum], checksum):
                    link_or_copy(self._root / same[checksum], target)
                else:
                    _copy(folder / path, target)
            (part / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            _sync(part / MANIFEST)
            self.take_in(part, str(manifest.release_id))
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def mend(self, folder: Path, manifest: ReleaseManifest) -> None:
        """Copy beside and rename what differs by its checksum."""
        for path, checksum in manifest.checksums.items():
            target = self.folder(str(manifest.release_id)) / path
            if not _is_same(target, checksum):
                part = target.with_name(f"{_PART}{secrets.token_hex(4)}")
                _copy(folder / path, part)
                part.replace(target)

    def get(self, manifest: ReleaseManifest) -> Path:
        """Return the folder itself."""
        return self.folder(str(manifest.release_id))

    def folder(self, release_id: str) -> Path:
        """Return where a release stands, or would."""
        return self._root / release_id

    def new_part(self) -> Path:
        """Return a new folder beside the releases; what killed processes left is removed."""
        self._root.mkdir(parents=True, exist_ok=True)
        for old in self._root.glob(f"{_PART}*"):
            if time.time() - old.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(old, ignore_errors=True)
        part = self._root / f"{_PART}{secrets.token_hex(8)}"
        part.mkdir()
        return part

    def take_in(self, part: Path, release_id: str) -> None:
        """Rename a filled folder to the release; another process may have been quicker."""
        try:
            part.rename(self.folder(release_id))
        except OSError:
            if self.read(f"{release_id}/{MANIFEST}") is None:
                raise
        _sync(self._root)


class ObjectPlace:
    """Releases in an object store; what is fetched stays in a cache on this machine."""

    def __init__(self, filesystem: Any, root: str, cache: Path) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._cache = LocalPlace(cache)

    def ids(self) -> list[str]:
        """Return the ids of all whole releases, sorted."""
        self._fs.invalidate_cache()  # others publish too
        found = self._fs.glob(f"{self._root}/*/{MANIFEST}")
        return sorted(str(path).rsplit("/", 2)[1] for path in found)

    def read(self, path: str) -> bytes | None:
        """Return a small object, None where there is none."""
        try:
            content: bytes = self._fs.cat_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        return content

    def write(self, path: str, content: bytes) -> None:
        """Write a small object; stores show it whole or not at all."""
        self._make_folder(path)
        self._fs.pipe_file(f"{self._root}/{path}", content)

    def put(self, folder: Path, manifest: ReleaseManifest, same: SameFiles) -> None:
        """Upload the files, those that stand here by a copy inside the store; manifest last."""
        for path, checksum in manifest.checksums.items():
            target = f"{manifest.release_id}/{path}"
            size = (folder / path).stat().st_size
            if checksum in same and self._size(same[checksum]) == size:
                self._make_folder(target)
                self._fs.cp_file(f"{self._root}/{same[checksum]}", f"{self._root}/{target}")
            else:
                self._upload(folder / path, target)
        self.write(f"{manifest.release_id}/{MANIFEST}", manifest.to_json().encode())

    def mend(self, folder: Path, manifest: ReleaseManifest) -> None:
        """Upload everything again: what stands in a store cannot be compared without a download."""
        for path in manifest.checksums:
            self._upload(folder / path, f"{manifest.release_id}/{path}")

    def get(self, manifest: ReleaseManifest) -> Path:
        """Download into the cache what is not in it; equal files of other releases are linked."""
        release_id = str(manifest.release_id)
        standing = self._cache.folder(release_id)
        if (standing / MANIFEST).is_file():
            if _is_whole(standing, manifest):
                return standing
            shutil.rmtree(standing)  # damaged on this machine: the store still has it
        same = same_files(self._cache)
        part = self._cache.new_part()
        try:
            for path, checksum in manifest.checksums.items():
                target = part / path
                if checksum in same and _is_same(self._cache.folder(same[checksum]), checksum):
                    link_or_copy(self._cache.folder(same[checksum]), target)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._fs.get_file(f"{self._root}/{release_id}/{path}", str(target))
                require_same(target, checksum, shown=f"{path} of {release_id}")
            (part / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            self._cache.take_in(part, release_id)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return standing

    def _upload(self, file: Path, path: str) -> None:
        self._make_folder(path)
        self._fs.put_file(str(file), f"{self._root}/{path}")

    def _size(self, path: str) -> int | None:
        try:
            return int(self._fs.size(f"{self._root}/{path}"))
        except FileNotFoundError:
            return None

    def _make_folder(self, path: str) -> None:
        # Object stores need none, and would make a bucket of a mistyped name; sftp and smb do.
        protocol = self._fs.protocol
        if _BUCKETS & {protocol, *(() if isinstance(protocol, str) else protocol)}:
            return
        self._fs.makedirs(f"{self._root}/{path}".rpartition("/")[0], exist_ok=True)


def same_files(place: ReleasePlace) -> dict[str, str]:
    """Return sha256 -> path of every file of the releases that stand in a place."""
    found: dict[str, str] = {}
    for release_id in place.ids():
        try:
            manifest = parse_manifest(place.read(f"{release_id}/{MANIFEST}") or b"", release_id)
        except ManifestUnreadable:  # nothing can be reused of it; who asks for it is told
            continue
        for path, checksum in manifest.checksums.items():
            found.setdefault(checksum, f"{release_id}/{path}")
    return found


def _is_whole(folder: Path, manifest: ReleaseManifest) -> bool:
    return all(_is_same(folder / path, known) for path, known in manifest.checksums.items())


def _is_same(path: Path, checksum: str) -> bool:
    try:
        require_same(path, checksum, shown=path.name)
    except ReleaseRefused:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
