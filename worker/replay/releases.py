"""The models a replay runs: of the releases that batch records name, or of those to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.release import ModelUnavailable
from models.releases.store import ReleaseStore
from models.search.product_vectors import ProductVectors
from worker.errors import ShopstreamError
from worker.flow.loading import LoadedModels, load_models, load_release
from worker.pipeline.stages import PipelineModels
from worker.replay.prefetch import PrefetchingTrunk
from worker.settings import Settings


class ReleaseGone(ShopstreamError):
    """A release cannot be had any more; the message says which."""


class Releases:
    """Loads each release once; what lies in no folder comes from the release store."""

    def __init__(self, settings: Settings, folders: Sequence[Path] = ()) -> None:
        self._settings = settings
        self._folders = list(folders)
        self._loaded: dict[str, PipelineModels] = {}
        self._gone: dict[str, str] = {}
        self._own: PipelineModels | None = None
        self.product_vectors: dict[str, ProductVectors] = {}  # that came with a release, by trunk
        self.device = ""
        self.dtype = ""

    def own(self) -> PipelineModels:
        """Return the models that the settings name. Raises ModelsUnavailable."""
        if self._own is None:
            self._own = self._keep(load_models(self._settings))
        return self._own

    def of_folder(self, folder: Path) -> PipelineModels:
        """Return the models of a release's folder. Raises ModelsUnavailable."""
        return self._keep(load_release(self._settings, folder))

    def models_for(self, release: str) -> PipelineModels:
        """Return the models of a release by its name in batch records.

        Raises ReleaseGone: neither the settings, the folders nor the store have it.
        """
        if release in self._loaded:
            return self._loaded[release]
        if release in self._gone:
            raise ReleaseGone(self._gone[release])
        while self._folders:
            if self.of_folder(self._folders.pop(0)).release == release:
                return self._loaded[release]
        stored = self._from_store(release)
        if stored is not None:
            return self.of_folder(stored)
        if self.own().release == release:
            return self.own()
        known = ", ".join(sorted(self._loaded)) or "none"
        self._gone[release] = (
            f"release {release!r} made batches of this recording and is not to be had (loaded: "
            f"{known}): name its folder with --release, or set SHOPSTREAM_RELEASES_URL or "
            "SHOPSTREAM_MODEL"
        )
        raise ReleaseGone(self._gone[release])

    def _from_store(self, release: str) -> Path | None:
        if not self._settings.releases_url:
            return None
        try:
            return ReleaseStore(self._settings.releases_url).fetch(release)
        except (ModelUnavailable, ValueError):
            return None

    def _keep(self, loaded: LoadedModels) -> PipelineModels:
        models = prefetching(loaded.models)
        self.device, self.dtype = loaded.device, loaded.dtype
        if loaded.product_vectors is not None:
            self.product_vectors.setdefault(models.trunk.release, loaded.product_vectors)
        self._loaded.setdefault(models.release, models)
        return self._loaded[models.release]


def prefetching(models: PipelineModels) -> PipelineModels:
    """Return the same models on a trunk that can encode ahead."""
    if isinstance(models.trunk, PrefetchingTrunk):
        return models
    return replace(models, trunk=PrefetchingTrunk(models.trunk))
