"""The release store: published releases by id, in a folder or behind any fsspec URL.

A release is there whole or not at all, is never changed, and is checked whenever it is fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.release import ModelUnavailable, open_trunk
from models.releases.folder import ReleaseRefused, check_release, require_sound
from models.releases.manifest import (
    ID_PATTERN,
    MANIFEST,
    ManifestUnreadable,
    ReleaseManifest,
    parse_manifest,
)
from models.releases.places import LocalPlace, ObjectPlace, ReleasePlace, same_files

DEFAULT_MAX_BYTES = 20_000_000_000


class ReleaseMissing(ReleaseRefused):
    """The store holds no release of this id."""


class StoreFailed(ModelUnavailable):
    """The store cannot be read or written; the message says why and what to do."""


class ReleaseStore:
    """Releases under one address.

    Errors: `StoreFailed` (the place), `ReleaseRefused` and `ManifestUnreadable` (a release); all
    are `ModelUnavailable`.
    """

    def __init__(
        self, url: str | Path, *, max_bytes: int = DEFAULT_MAX_BYTES, cache: Path | None = None
    ) -> None:
        """Open the store at a folder or fsspec URL (`s3://bucket/releases`); nothing is read yet.

        Args:
            max_bytes: a larger release is refused.
            cache: where releases of a remote store are kept; `~/.cache/shopstream/releases`.
        """
        self.url = str(url)
        self._max_bytes = max_bytes
        with self._errors():
            self._place = _open_place(self.url, cache)

    def publish(self, folder: Path) -> str:
        """Store a sealed folder and return its release id; one that stands is mended at the most.

        Files that any release here has already are linked (or copied inside the store).
        """
        manifest = check_release(folder, max_bytes=self._max_bytes)
        open_trunk(folder)
        release_id = str(manifest.release_id)
        with self._errors():
            if self.exists(release_id):
                self._place.mend(folder, manifest)
            else:
                self._place.put(folder, manifest, same_files(self._place))
        return release_id

    def fetch(self, release_id: str) -> Path:
        """Return a local folder with the release, every file checked; never edit it."""
        manifest = self.manifest(release_id)
        require_sound(manifest, release_id, max_bytes=self._max_bytes)
        with self._errors():
            folder = self._place.get(manifest)
            check_release(folder, max_bytes=self._max_bytes)
        return folder

    def manifest(self, release_id: str) -> ReleaseManifest:
        """Return what a release says of itself."""
        content = self._read(release_id, MANIFEST)
        if content is None:
            raise ReleaseMissing(
                f"there is no release {release_id} in {self.url}: `shopstream releases list` shows "
                "those that are."
            )
        manifest = parse_manifest(content, f"the manifest of {release_id}")
        if manifest.release_id != release_id:
            raise ReleaseRefused(
                f"the manifest of {release_id} is that of {manifest.release_id}: publish it again."
            )
        return manifest

    def exists(self, release_id: str) -> bool:
        """Return whether the whole release is there."""
        return self._read(release_id, MANIFEST) is not None

    def ids(self) -> list[str]:
        """Return the ids of all releases, sorted."""
        with self._errors():
            return [found for found in self._place.ids() if ID_PATTERN.fullmatch(found)]

    def releases(self) -> tuple[list[ReleaseManifest], list[str]]:
        """Return the manifests, oldest first, and one sentence for each that cannot be read."""
        found: list[ReleaseManifest] = []
        faults: list[str] = []
        for release_id in self.ids():
            try:
                found.append(self.manifest(release_id))
            except (ManifestUnreadable, ReleaseRefused) as error:
                faults.append(str(error))
        return sorted(found, key=lambda one: (one.created_at, str(one.release_id))), faults

    def lineage_file(self, release_id: str, name: str) -> bytes | None:
        """Return one of a release's lineage files, unfetched; None: it has none."""
        return self._read(release_id, f"lineage/{name}")

    def read_note(self, release_id: str, name: str) -> dict[str, Any] | None:
        """Return what was noted about a release after its publication."""
        content = self._read(".notes", f"{_checked(release_id)}.{name}.json")
        try:
            return None if content is None else dict(json.loads(content))
        except ValueError as error:
            raise StoreFailed(
                f"the note {name} of {release_id} in {self.url} is no JSON: remove it."
            ) from error

    def write_note(self, release_id: str, name: str, value: dict[str, Any]) -> None:
        """Note something about a release beside it: the release itself never changes."""
        content = json.dumps(value, ensure_ascii=False, indent=2).encode()
        with self._errors():
            self._place.write(f".notes/{_checked(release_id)}.{name}.json", content)

    def _read(self, release_id: str, path: str) -> bytes | None:
        first = release_id if release_id == ".notes" else _checked(release_id)
        with self._errors():
            return self._place.read(f"{first}/{path}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ModelUnavailable:
            raise
        except Exception as error:
            # a store's client has errors of its own (botocore, aiohttp …)
            own = type(error).__module__.partition(".")[0] in ("builtins", "models")
            if own and not isinstance(error, (OSError, ImportError, ValueError)):
                raise
            detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise StoreFailed(
                f"the release store {self.url} cannot be used ({detail}): check "
                "SHOPSTREAM_RELEASES_URL, its rights and its free space."
            ) from error


def _open_place(url: str, cache: Path | None) -> ReleasePlace:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme == "file":
        return LocalPlace(Path(rest if mark else url).expanduser().absolute())
    from fsspec.core import url_to_fs

    filesystem, root = url_to_fs(url)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    own = hashlib.sha256(url.encode()).hexdigest()[:12]  # stores may hold other releases by one id
    return ObjectPlace(filesystem, str(root), cache or home / "shopstream" / "releases" / own)


def _checked(release_id: str) -> str:
    """Return an id that can be no path: ids come from messages."""
    if not ID_PATTERN.fullmatch(release_id):
        raise ReleaseMissing(f"{release_id!r} is no release id (<name>-<12 hex digits>).")
    return release_id
