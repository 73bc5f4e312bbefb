"""Releases in object stores, S3 and Google Cloud Storage: every store's contract, the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from models.releases.store import ReleaseStore, StoreFailed
from tests.support.gcs_server import GcsServer
from tests.support.object_server import ObjectServer
from tests.support.s3_server import S3Missing, S3Server
from tests.support.tiny_release import write_tiny_release
from tests.support.tiny_trunk import write_tiny_trunk
from tests.unit import test_release_store as contract

trunk = contract.trunk
test_a_published_release_comes_back_whole = contract.test_a_published_release_comes_back_whole
test_publishing_again_changes_nothing = contract.test_publishing_again_changes_nothing
test_an_upload_that_stops_is_no_release = contract.test_an_upload_that_stops_is_no_release
test_publishing_again_mends_a_damaged_release = (
    contract.test_publishing_again_mends_a_damaged_release
)
test_a_too_large_release_is_refused = contract.test_a_too_large_release_is_refused
test_an_unknown_release_is_named = contract.test_an_unknown_release_is_named
test_notes_stand_beside_the_release = contract.test_notes_stand_beside_the_release


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectServer]:
    """A server of this file's own."""
    folder = tmp_path_factory.mktemp(request.param)
    try:
        server = S3Server(folder) if request.param == "s3" else GcsServer(folder)
    except S3Missing as missing:  # an optional store: Kafka's jars are what CI must have
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture
def url(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test's own place in the bucket, with what clients need in the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.config.set_conf_env(fsspec.config.conf)  # read once, at import
    yield f"{server.scheme}://shop/{tmp_path.name}"
    fsspec.config.conf.pop(server.scheme, None)


@pytest.fixture
def open_store(url: str, tmp_path: Path) -> contract.Open:
    """Open the test's store, with a cache on disk."""

    def open_it(**options: Any) -> ReleaseStore:
        return ReleaseStore(url, cache=tmp_path / "cache", **options)

    return open_it


def test_what_another_process_publishes_is_listed_and_comes(
    url: str, trunk: Path, tmp_path: Path
) -> None:
    """A release that the command publishes is listed by a store that was listed before."""
    store = ReleaseStore(url, cache=tmp_path / "cache")
    assert store.ids() == []
    done = releases("publish", str(trunk), url=url, home=tmp_path)
    release_id = done.stdout.split()[0]
    assert store.ids() == [release_id]
    assert (store.fetch(release_id) / "model.safetensors").is_file()


def test_what_cannot_be_reached_is_one_sentence(
    server: ObjectServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is not there, or a server that is away, is told with the setting to check."""
    write_tiny_release(tmp_path / "r", trunk=write_tiny_trunk(tmp_path / "tiny-shop"))
    with pytest.raises(StoreFailed, match="SHOPSTREAM_RELEASES_URL"):
        ReleaseStore(f"{server.scheme}://no-such-bucket/r", cache=tmp_path / "c").publish(
            tmp_path / "r"
        )
    for name, value in server.at("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = releases("list", url=url, home=tmp_path)
    assert done.returncode != 0
    assert "SHOPSTREAM_RELEASES_URL" in done.stderr
    assert "Traceback" not in done.stderr


def releases(*arguments: str, url: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run `shopstream releases` on the store."""
    command = [sys.executable, "-m", "worker.commands", "releases", *arguments]
    environment = {**os.environ, "SHOPSTREAM_RELEASES_URL": url, "HOME": str(home)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
