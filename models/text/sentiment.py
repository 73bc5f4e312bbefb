"""Sentiment: a small head on the frozen trunk says negative, neutral or positive.

The head reads the mean and the maximum of the token states of a few layers: what a review feels
sits in the middle layers, what it is about in the last. A temperature, fitted on held-out reviews,
makes its probabilities honest (Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.release import ModelUnavailable
from models.text_encoder import TextEncoder, TokenStates

LABELS = ("negative", "neutral", "positive")
HEADS_FOLDER = Path(__file__).parents[1] / "heads"
_WEIGHTS, _MANIFEST = "head.safetensors", "head.json"


class SentimentHead(nn.Module):
    """Token states of chosen layers → probabilities of the three labels."""

    classes = len(LABELS)

    def __init__(self, width: int, layers: Sequence[int], hidden: int = 64) -> None:
        """Make an untrained head for a trunk of this width that reads these layers."""
        super().__init__()
        self.layers = tuple(layers)
        self.width = width
        self.release = "sentiment@untrained"
        self.trunk_weights = ""  # checksum of the trunk it was trained on; empty: unknown
        features = 2 * len(self.layers) * width
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, self.classes)
        self.dropout = nn.Dropout(0.3)
        self.register_buffer("temperature", torch.ones(()))

    def features(self, states: TokenStates) -> Tensor:
        """Return (R, 2·layers·D): masked mean and maximum of each layer's token states."""
        mask = states.mask.unsqueeze(-1)  # (R, L, 1)
        count = mask.sum(1).float()
        parts: list[Tensor] = []
        for layer in self.layers:
            hidden = states.layers[layer].float()  # (R, L, D)
            parts.append((hidden * mask).sum(1) / count)
            parts.append(hidden.masked_fill(~mask, float("-inf")).amax(1))
        return torch.cat(parts, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (R, 3) of features (R, F), before the temperature."""
        hidden = torch.nn.functional.gelu(self.hidden(self.dropout(self.norm(features))))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def probabilities(self, states: TokenStates) -> Tensor:
        """Return calibrated probabilities (R, 3) in the order of `LABELS`."""
        features = self.features(states)
        # A product of one row takes another kernel than one of many: run row by row, the head is
        # small, so that a row's bits do not depend on the rows beside it.
        logits = torch.cat([self(row.unsqueeze(0)) for row in features])
        temperature: Any = self.temperature
        return torch.softmax(logits / temperature, dim=-1)


def save(head: SentimentHead, folder: Path, *, name: str, lineage: Mapping[str, Any]) -> None:
    """Write a head as safetensors with its lineage; `lineage` holds `trunk_weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous().cpu() for key, value in head.state_dict().items()}
    save_file(tensors, folder / _WEIGHTS)
    manifest = {
        "name": name,
        "labels": list(LABELS),
        "width": head.width,
        "layers": list(head.layers),
        "hidden": head.hidden.out_features,
        "checksum": _checksum(folder / _WEIGHTS),
        "lineage": dict(lineage),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> SentimentHead:
    """Read a head's folder; raises ModelUnavailable when it is not whole."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["checksum"] != _checksum(folder / _WEIGHTS):
            raise ModelUnavailable(
                f"the sentiment head {folder} is damaged (its checksum differs): copy it again"
            )
        head = SentimentHead(manifest["width"], manifest["layers"], manifest["hidden"])
        head.load_state_dict(load_file(folder / _WEIGHTS))
        head.release = f"{manifest['name']}@{manifest['checksum'][:8]}"
        head.trunk_weights = str(manifest.get("lineage", {}).get("trunk_weights", ""))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailable(
            f"the sentiment head {folder} cannot be read ({error}): train one with `shopstream"
            " train sentiment`, or unset SHOPSTREAM_SENTIMENT_HEAD"
        ) from error
    return head.eval()


def packaged_head(trunk: TextEncoder) -> SentimentHead | None:
    """Return the shipped head that was trained on exactly this trunk's weights, if there is one."""
    folder = packaged_head_folder(trunk.trunk_release.weights_checksum)
    return None if folder is None else load(folder)


def packaged_head_folder(trunk_weights: str) -> Path | None:
    """Return the folder of the shipped head for a trunk's weights checksum, if there is one."""
    for manifest in sorted(HEADS_FOLDER.glob(f"*/{_MANIFEST}")):
        lineage = json.loads(manifest.read_text(encoding="utf-8"))["lineage"]
        if lineage.get("trunk_weights") == trunk_weights:
            return manifest.parent
    return None


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
