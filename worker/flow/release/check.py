"""What a loaded release must show before it may serve: that it fits in memory, and that it counts.

The release store has checked the files; damage that has a right checksum (weights that are not
finite, a head that says nothing) shows only when the models run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.releases.manifest import ReleaseManifest
from worker.flow.loading import SENTIMENT, ModelsUnavailable
from worker.pipeline.stages import PipelineModels

_PROBES = (
    "waterproof hiking boots", "Broke after one day, a waste of money.", "I love it!",
    "防水登山鞋", "质量很好，我很喜欢。", "",
)  # fmt: skip
_UNIT_TOLERANCE = 1e-2
# Weights are read, then brought to the device: what else a load needs beside them.
_MEMORY_MARGIN = 1.3
_MEMORY_FILE = Path("/proc/meminfo")


def require_memory(manifest: ReleaseManifest, device: str) -> None:
    """Raise ModelsUnavailable where a release would surely not fit beside the one that serves."""
    needed = int(manifest.total_bytes * _MEMORY_MARGIN)
    places = {"memory": _free_memory_bytes()}
    if device.startswith("cuda"):
        places[f"memory of {device}"] = _free_device_bytes(device)
    for place, free in places.items():
        if free is not None and needed > free:
            raise ModelsUnavailable(
                f"{manifest.release_id} needs about {needed:,} bytes beside the release that "
                f"serves, and only {free:,} of {place} are free: give the worker more, or "
                "restart it on the release alone."
            )


def require_sense(models: PipelineModels) -> None:
    """Raise ModelsUnavailable when the models' numbers are none; runs a few texts through them."""
    trunk = models.trunk
    tokens = trunk.tokenize(_PROBES, "passage")
    rows = {SENTIMENT: list(range(len(tokens)))} if models.has_sentiment else {}
    encodings = trunk.encode(tokens, rows)
    norms = np.linalg.norm(encodings.vectors, axis=1)
    if not np.isfinite(norms).all() or np.abs(norms - 1).max() > _UNIT_TOLERANCE:
        raise ModelsUnavailable(
            f"{models.release}: the text trunk gives vectors that are not finite unit vectors; its "
            "training went wrong: train it again."
        )
    for name, probabilities in encodings.heads.items():
        sums = probabilities.sum(axis=1)
        if not np.isfinite(sums).all() or np.abs(sums - 1).max() > _UNIT_TOLERANCE:
            raise ModelsUnavailable(
                f"{models.release}: the head {name!r} gives no probabilities; its training went "
                "wrong: train it again."
            )


def require_heads(before: PipelineModels, loaded: PipelineModels) -> None:
    """Raise ModelsUnavailable when a release lacks what the one before does for shoppers."""
    if before.has_sentiment and not loaded.has_sentiment:
        raise ModelsUnavailable(
            f"{loaded.release} has no sentiment head that fits its trunk, but "
            f"{before.release} tags reviews: publish it with one "
            "(`shopstream releases publish FOLDER --head sentiment=HEAD`)."
        )


def _free_memory_bytes() -> int | None:
    try:
        lines = _MEMORY_FILE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # no Linux: nobody knows
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_device_bytes(device: str) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free)
