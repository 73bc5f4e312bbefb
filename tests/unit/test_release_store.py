"""Releases in a folder and behind fsspec: whole or not there, checked, cheap where unchanged."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from transformers import AutoModel

from models.release import open_trunk
from models.releases.folder import ReleaseRefused, parts_of
from models.releases.manifest import MANIFEST, ManifestUnreadable
from models.releases.places import LocalPlace, ObjectPlace
from models.releases.store import ReleaseMissing, ReleaseStore, StoreFailed
from models.text.sentiment import load
from tests.support.tiny_release import write_tiny_release
from tests.support.tiny_trunk import write_tiny_trunk

Open = Callable[..., ReleaseStore]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trunk for all releases of this file."""
    return write_tiny_trunk(tmp_path_factory.mktemp("trunk") / "tiny-shop")


@pytest.fixture(params=["folder", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the test's store: a folder, or an object store by fsspec with a cache on disk."""
    url = str(tmp_path / "store")
    if request.param == "memory":
        url = f"memory://{tmp_path.name}/releases"

    def open_it(**options: Any) -> ReleaseStore:
        return ReleaseStore(url, cache=tmp_path / "cache", **options)

    return open_it


def test_a_published_release_comes_back_whole(
    open_store: Open, trunk: Path, tmp_path: Path
) -> None:
    """What is published is listed, comes back file by file, and its trunk loads as in a hub."""
    sealed = write_tiny_release(
        tmp_path / "r", trunk=trunk, seed=3, code_version="1", parents=["p"]
    )
    store = open_store()
    release_id = store.publish(tmp_path / "r")
    assert release_id == sealed.release_id == f"tiny-shop-{release_id[-12:]}"
    assert (store.ids(), store.releases()) == ([release_id], ([sealed], []))
    folder = open_store().fetch(release_id)
    for path in sealed.checksums:
        assert (folder / path).read_bytes() == (tmp_path / "r" / path).read_bytes()
    assert AutoModel.from_pretrained(folder).config.hidden_size == 32
    assert open_trunk(folder).content_id == open_trunk(trunk).content_id
    assert load(parts_of(folder).heads["sentiment"]).width == 32


def test_the_id_names_the_content(trunk: Path, tmp_path: Path) -> None:
    """The same files give the same id whoever made them when; another head gives another."""
    first = write_tiny_release(tmp_path / "a", trunk=trunk, seed=1, created_at="2025-01-01")
    again = write_tiny_release(tmp_path / "b", trunk=trunk, seed=1, created_at="2026-01-01")
    other = write_tiny_release(tmp_path / "c", trunk=trunk, seed=2)
    assert first.release_id == again.release_id != other.release_id


def test_publishing_again_changes_nothing(open_store: Open, trunk: Path, tmp_path: Path) -> None:
    """A release that stands is left as it is, its manifest with its date too."""
    write_tiny_release(tmp_path / "a", trunk=trunk, created_at="2025-01-01")
    write_tiny_release(tmp_path / "b", trunk=trunk, created_at="2026-01-01")
    store = open_store()
    release_id = store.publish(tmp_path / "a")
    assert store.publish(tmp_path / "b") == release_id
    assert store.manifest(release_id).created_at == "2025-01-01"


def test_an_unchanged_trunk_costs_nothing(trunk: Path, tmp_path: Path) -> None:
    """Two releases of one trunk share its file on disk, and neither shares one with the source."""
    store = ReleaseStore(tmp_path / "store")
    paths = []
    for seed in (1, 2):
        write_tiny_release(tmp_path / f"r{seed}", trunk=trunk, seed=seed)
        paths.append(store.fetch(store.publish(tmp_path / f"r{seed}")) / "model.safetensors")
    assert paths[0].stat().st_ino == paths[1].stat().st_ino != (trunk / paths[0].name).stat().st_ino


def test_an_upload_that_stops_is_no_release(
    open_store: Open, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails in mid-publication shows nothing, and the next publication succeeds."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = open_store()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlace, "take_in", full)
        patch.setattr(ObjectPlace, "write", full)
        with pytest.raises(StoreFailed, match="No space left on device"):
            store.publish(tmp_path / "r")
    assert store.ids() == []
    release_id = store.publish(tmp_path / "r")
    assert store.ids() == [release_id]
    store.fetch(release_id)


@pytest.mark.parametrize("damage", ["flipped", "missing", "unlisted", "code"])
def test_a_damaged_release_is_refused(trunk: Path, tmp_path: Path, damage: str) -> None:
    """A changed, missing or added file is found at every fetch and named."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = ReleaseStore(tmp_path / "store")
    release_id = store.publish(tmp_path / "r")
    folder = tmp_path / "store" / release_id
    head = folder / "heads" / "sentiment" / "head.safetensors"
    match damage:
        case "flipped":
            head.write_bytes(head.read_bytes()[:-1] + b"\x7f")
        case "missing":
            head.unlink()
        case "unlisted":
            (folder / "adapter_config.json").write_text("{}")
        case "code":
            (folder / "modeling.py").write_text("")
    with pytest.raises(ReleaseRefused, match=r"head\.safetensors|adapter_config|modeling"):
        store.fetch(release_id)


def test_publishing_again_mends_a_damaged_release(
    open_store: Open, trunk: Path, tmp_path: Path
) -> None:
    """What a refusal advises helps: a file damaged in the store is replaced, and none copied on."""
    write_tiny_release(tmp_path / "r", trunk=trunk, seed=1)
    write_tiny_release(tmp_path / "other", trunk=trunk, seed=2)
    store = open_store()
    release_id = store.publish(tmp_path / "r")
    place = store._place
    place.write(f"{release_id}/model.safetensors", b"cut off")
    with pytest.raises(ReleaseRefused, match=r"model\.safetensors .* damaged"):
        store.fetch(release_id)
    other = store.publish(tmp_path / "other")
    assert store.fetch(other).name == other
    assert store.publish(tmp_path / "r") == release_id
    assert store.fetch(release_id).name == release_id


def test_what_others_publish_is_listed(trunk: Path, tmp_path: Path) -> None:
    """A store that was listed before, as a running job has done, lists what came since."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    url = f"memory://{tmp_path.name}/listed"
    ours, theirs = (ReleaseStore(url, cache=tmp_path / name) for name in ("ours", "theirs"))
    cached = DirFileSystem(path="/", fs=fsspec.filesystem("memory"))
    invalidated: list[bool] = []
    cached.invalidate_cache = lambda path=None: invalidated.append(True)
    ours._place._fs = cached  # type: ignore[attr-defined]
    assert ours.ids() == []
    assert theirs.publish(tmp_path / "r") in ours.ids()
    assert len(invalidated) == 2


class EndpointConnectionError(Exception):
    """As the clients of object stores raise them: no OSError."""


def test_an_object_store_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    """Errors of a store's own client become the store's, which says what to check."""
    store = ReleaseStore(f"memory://{tmp_path.name}/away", cache=tmp_path / "cache")

    class Away(MemoryFileSystem):
        cachable = False

        def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> list[str]:
            raise EndpointConnectionError("Could not connect to the endpoint")

    store._place._fs = Away()  # type: ignore[attr-defined]
    with pytest.raises(StoreFailed, match=r"Could not connect .* check SHOPSTREAM_RELEASES_URL"):
        store.ids()


def test_a_damaged_cache_is_fetched_again(trunk: Path, tmp_path: Path) -> None:
    """A file damaged in this machine's cache is taken from the store again."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = ReleaseStore(f"memory://{tmp_path.name}/c", cache=tmp_path / "cache")
    release_id = store.publish(tmp_path / "r")
    (store.fetch(release_id) / "config.json").write_text("{}")
    assert json.loads((store.fetch(release_id) / "config.json").read_text())["model_type"] == "bert"


def test_a_damaged_object_never_reaches_the_cache(trunk: Path, tmp_path: Path) -> None:
    """A download whose checksum differs is refused and leaves nothing behind."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = ReleaseStore(f"memory://{tmp_path.name}/d", cache=tmp_path / "cache")
    release_id = store.publish(tmp_path / "r")
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/{tmp_path.name}/d/{release_id}/config.json", b"{}")
    with pytest.raises(ReleaseRefused, match=r"config\.json .* damaged"):
        store.fetch(release_id)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_changed_manifest_is_refused(trunk: Path, tmp_path: Path) -> None:
    """A manifest whose checksums were edited no longer fits its id."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = ReleaseStore(tmp_path / "store")
    path = tmp_path / "store" / store.publish(tmp_path / "r") / MANIFEST
    content = json.loads(path.read_text())
    content["checksums"]["config.json"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(ReleaseRefused, match="does not fit the checksums"):
        store.fetch(path.parent.name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "update shopstream"),
        ({"checksums": {"../../etc/passwd": "0"}}, "leads out of the folder"),
        ({"pooling": "max"}, "pooling 'max'"),
    ],
)
def test_a_foreign_manifest_is_refused(
    trunk: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    """Another version's manifest, or one that leads elsewhere, is refused with the reason."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    path = tmp_path / "r" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestUnreadable, match=says):
        ReleaseStore(tmp_path / "store").publish(tmp_path / "r")


def test_a_too_large_release_is_refused(open_store: Open, trunk: Path, tmp_path: Path) -> None:
    """The limit holds when publishing and when fetching, and the sentence names the setting."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    with pytest.raises(ReleaseRefused, match="SHOPSTREAM_RELEASE_MAX_BYTES"):
        open_store(max_bytes=1_000).publish(tmp_path / "r")
    release_id = open_store().publish(tmp_path / "r")
    with pytest.raises(ReleaseRefused, match="SHOPSTREAM_RELEASE_MAX_BYTES"):
        open_store(max_bytes=1_000).fetch(release_id)


@pytest.mark.parametrize("release_id", ["../secret-000000000000", "x", "/etc", "no-0123456789ab"])
def test_an_unknown_release_is_named(open_store: Open, release_id: str) -> None:
    """An id that is none, leads elsewhere or is not there is refused with its name."""
    with pytest.raises(ReleaseMissing, match=release_id):
        open_store().fetch(release_id)


def test_a_mere_trunk_is_no_release(trunk: Path, tmp_path: Path) -> None:
    """A trunk's folder without a release's manifest is refused."""
    with pytest.raises(ReleaseRefused, match="no release"):
        ReleaseStore(tmp_path / "store").publish(Path(shutil.copytree(trunk, tmp_path / "t")))


def test_notes_stand_beside_the_release(open_store: Open, trunk: Path, tmp_path: Path) -> None:
    """A note about a release is read back and leaves the release unchanged."""
    write_tiny_release(tmp_path / "r", trunk=trunk)
    store = open_store()
    release_id = store.publish(tmp_path / "r")
    assert store.read_note(release_id, "forgotten") is None
    store.write_note(release_id, "forgotten", {"shoppers": 1})
    assert store.read_note(release_id, "forgotten") == {"shoppers": 1}
    assert store.ids() == [release_id]
    store.fetch(release_id)


def test_an_unusable_store_is_named(tmp_path: Path) -> None:
    """A store that cannot be written, or whose driver is missing, names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="SHOPSTREAM_RELEASES_URL"):
        ReleaseStore(tmp_path / "file" / "store").write_note("a-000000000000", "n", {})
    with pytest.raises(StoreFailed, match="SHOPSTREAM_RELEASES_URL"):
        ReleaseStore("nothing://bucket/x")
