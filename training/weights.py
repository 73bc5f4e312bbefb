"""Whether the weights of a trained part are numbers at all."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open


def weight_fault(folder: Path) -> str | None:
    """Return what is wrong with the safetensors below a folder, None where all are finite."""
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    tensor = tensors.get_tensor(name)
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        return f"{name} in {path.name} holds numbers that are none (NaN, infinite)"
        except (SafetensorError, OSError) as error:
            return f"{path.name} cannot be read ({error})"
    return None
