"""Loads a checked trunk folder through `transformers`: network, tokenizer, device, dtype."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from models.release import ModelUnavailable, TrunkRelease

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Return the device and the number type for the settings `device` and `dtype`."""
    try:
        place = torch.device(_first_device() if device == "auto" else device)
    except RuntimeError as error:
        raise ModelUnavailable(
            f"{device!r} names no device: set SHOPSTREAM_DEVICE to auto, cpu, cuda or cuda:1."
        ) from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ModelUnavailable(
            f"There is no GPU {device!r} that torch can use: set SHOPSTREAM_DEVICE=auto or cpu."
        )
    if dtype == "auto":
        return place, torch.bfloat16 if place.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ModelUnavailable(f"dtype {dtype!r} is unknown: use auto, float32 or bfloat16.")
    return place, _DTYPES[dtype]


def load_network(
    release: TrunkRelease, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """Return the encoder of a release, in evaluation mode; raises ModelUnavailable if damaged."""
    from transformers import AutoModel

    try:
        with quiet_transformers():
            network, info = AutoModel.from_pretrained(
                release.folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                attn_implementation="sdpa",
                dtype=dtype,
                output_loading_info=True,
            )
    except Exception as error:  # the loaders raise many kinds for damaged or foreign files
        raise ModelUnavailable(
            f"The weights in {release.folder} cannot be loaded ({_first_line(error)}): "
            "copy the model again."
        ) from error
    missing = [key for key in sorted(info["missing_keys"]) if "pooler." not in key]
    if missing or info["mismatched_keys"]:
        what = missing[0] if missing else next(iter(info["mismatched_keys"]))
        raise ModelUnavailable(
            f"The weights in {release.folder} do not fit its config.json ({what}): "
            "copy the model again."
        )
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # no head reads it; where the checkpoint lacks one it is random
    return network.to(device).eval().requires_grad_(False)  # type: ignore[no-any-return]


def load_tokenizer(release: TrunkRelease) -> Any:
    """Return the fast tokenizer of a release."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            release.folder, use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:
        raise ModelUnavailable(
            f"The tokenizer in {release.folder} cannot be loaded ({_first_line(error)}): "
            "copy the model again."
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailable(
            f"{release.folder} has only a slow tokenizer: add a tokenizer.json to the folder."
        )
    return tokenizer


def token_limit(network: Any, tokenizer: Any) -> int:
    """Return the most tokens a text may have: positions of the network, limit of the tokenizer."""
    positions = int(getattr(network.config, "max_position_embeddings", 512))
    if network.config.model_type in {
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "mpnet",
    }:
        positions -= 2  # these count positions from the padding id + 1
    return int(min(positions, tokenizer.model_max_length))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back its load report and progress bar: the loader judges missing weights itself."""
    from transformers.utils import logging as transformers_logging

    verbosity, bar = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
