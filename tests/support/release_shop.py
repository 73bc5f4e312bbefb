"""Releases of tiny models in a store of a test's own, and what moves workers between them."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from models.releases.folder import ReleaseParts, assemble_release, seal_release
from models.releases.manifest import ReleaseManifest
from models.releases.store import ReleaseStore
from tests.support.tiny_release import write_tiny_head
from tests.support.tiny_trunk import write_tiny_trunk
from worker.settings import Settings
from worker.store.release_reports import ReleaseStatus, read_status
from worker.topics.release_moves import promote, read_pointer, roll_back, try_candidate

PATIENCE_S = 300.0


class ReleaseShop:
    """A store of releases, and the commands of a person who promotes them."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"releases_url": str(folder / "store")})
        self._folder = folder
        self._store = ReleaseStore(self.settings.releases_url)

    def publish(self, name: str, *, trunk_seed: int = 0, head_seed: int = 0) -> str:
        """Publish a release of a tiny trunk and a head; equal seeds make equal weights."""
        trunk = self._folder / f"trunk-{trunk_seed}"
        if not trunk.exists():
            write_tiny_trunk(trunk, seed=trunk_seed)
        head = write_tiny_head(self._folder / f"head-{head_seed}", seed=head_seed)
        target = self._folder / f"release-{name}"
        assemble_release(target, ReleaseParts(trunk=trunk, heads={"sentiment": head}))
        seal_release(target, ReleaseManifest(name=name), trunk=trunk)
        return self._store.publish(target)

    def damage(self, release: str, path: str = "model.safetensors") -> None:
        """Change a byte of a published file (a copy of it: files are linked)."""
        file = Path(self.settings.releases_url) / release / path
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.unlink()
        file.write_bytes(bytes(content))

    def remove(self, release: str) -> None:
        """Take a release out of the store."""
        shutil.rmtree(Path(self.settings.releases_url) / release)

    def promote(self, release: str) -> None:
        """Make a release current."""
        asyncio.run(promote(self.settings, release))

    def try_candidate(self, release: str, share: float) -> None:
        """Start an A/B trial."""
        asyncio.run(try_candidate(self.settings, release, share))

    def roll_back(self) -> None:
        """Bring the release before back, or end a trial."""
        asyncio.run(roll_back(self.settings))

    def status(self) -> ReleaseStatus:
        """Return what is to serve, what each worker serves and what was refused."""

        async def read() -> ReleaseStatus:
            return await read_status(self.settings, await read_pointer(self.settings))

        return asyncio.run(read())

    def wait_serving(self, release: str, workers: int = 1) -> None:
        """Return when so many workers say that they serve a release."""
        self.wait_until(
            lambda status: [w.release for w in status.workers].count(release) >= workers
        )

    def wait_until(self, holds: Callable[[ReleaseStatus], bool]) -> ReleaseStatus:
        """Return the first status for which `holds`."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(status := self.status()):
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
        return status
