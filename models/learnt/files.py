"""A recommender on disk: `config.json` (shape, item ids in row order, lineage) and
`model.safetensors`.

The item ids stand in `items.txt`, one a line as JSON string, because a catalogue may be large.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.recommender import RecommenderConfig, RecommenderNetwork
from models.release import ModelUnavailable, same_trunk
from models.text_encoder import TextTrunk

__all__ = [
    "LoadedRecommender", "ModelUnavailable", "load_recommender", "require_trunk",
    "save_recommender",
]  # fmt: skip

ARCHITECTURE = "shopstream-recommender-1"
CONFIG, ITEMS, WEIGHTS = "config.json", "items.txt", "model.safetensors"
# of folders written before there were these
_BEFORE = {"convolution": 1, "successors": 0, "neighbours": 0}


@dataclass(frozen=True, slots=True)
class LoadedRecommender:
    """A network ready to serve, and the ids of the items that its rows stand for."""

    network: RecommenderNetwork
    item_ids: list[str]
    lineage: dict[str, Any]


def save_recommender(
    folder: Path,
    network: RecommenderNetwork,
    item_ids: Sequence[str],
    lineage: Mapping[str, Any] | None = None,
) -> None:
    """Write a recommender; `config.json` comes last, so a folder that has one is whole.

    Raises ValueError where the ids do not fit the item table.
    """
    if len(item_ids) != network.config.items or len(set(item_ids)) != len(item_ids):
        raise ValueError(f"{network.config.items} different item ids are needed, one for each row")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in item_ids)
    (folder / ITEMS).write_text(lines, encoding="utf-8")
    config = {
        "architecture": ARCHITECTURE,
        "network": network.config.to_json(),
        "lineage": dict(lineage or {}),
    }
    part = folder / f".{CONFIG}.part"
    part.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / CONFIG)


def load_recommender(
    folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedRecommender:
    """Read a recommender in evaluation mode; raises ModelUnavailable with what to do."""
    folder = Path(folder)
    described = _read_config(folder)
    try:
        config = RecommenderConfig(**(_BEFORE | described["network"]))
        lines = (folder / ITEMS).read_text(encoding="utf-8").splitlines()
        item_ids = [str(json.loads(line)) for line in lines]
        weights = load_file(folder / WEIGHTS)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelUnavailable(
            f"{folder} holds no whole recommender ({error}): copy the folder again or train anew."
        ) from error
    if len(item_ids) != config.items:
        raise ModelUnavailable(
            f"{folder / ITEMS} names {len(item_ids)} items, {CONFIG} {config.items}: copy the "
            "folder again."
        )
    with torch.device("meta"):
        network = RecommenderNetwork(config)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"{folder / WEIGHTS} does not fit {CONFIG} beside it: copy the folder again."
        ) from error
    network.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return LoadedRecommender(network, item_ids, dict(described.get("lineage", {})))


def require_trunk(loaded: LoadedRecommender, trunk: TextTrunk, folder: Path) -> None:
    """Raise ModelUnavailable where a recommender was trained on another trunk's text vectors."""
    width = loaded.network.config.text_width
    if width not in (0, trunk.width):
        raise ModelUnavailable(
            f"{folder} was trained on text vectors of {width} numbers, the trunk {trunk.release} "
            f"gives {trunk.width}: train the recommender with this trunk, or set the one it was "
            "trained with"
        )
    trained_on = loaded.lineage.get("trunk")
    if width and trained_on is not None and not same_trunk(str(trained_on), trunk.release):
        raise ModelUnavailable(
            f"{folder} was trained with the trunk {trained_on}, this worker runs {trunk.release}: "
            "their text vectors differ; train the recommender with this trunk, or set the other"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{folder} is no recommender: there is no readable {CONFIG}; give a folder that "
            "`shopstream train recommender` wrote."
        ) from error
    if not isinstance(described, dict) or described.get("architecture") != ARCHITECTURE:
        raise ModelUnavailable(
            f"{folder / CONFIG} is not of a recommender this version reads ({ARCHITECTURE})."
        )
    return described
