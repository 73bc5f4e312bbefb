"""Writes a trained language model as a folder that `AutoModel` and SHOPSTREAM_MODEL load.

The folder is written beside its place and renamed, so nobody ever meets half of one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from models.release import MANIFEST, Pooling, TrunkRelease, file_checksum, write_manifest
from models.text.checkpoint import quiet_transformers
from training.language.language_model import LanguageModel
from training.loop.faults import is_file_fault
from training.loop.options import TrainingFailed
from training.loop.workplace import refuse_foreign
from training.processes import is_first

# What says how a tokenizer works; copied as it stands, so that not a byte of it changes.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json",
    "merges.txt", "sentencepiece.bpe.model", "spiece.model",
)  # fmt: skip


def save_trunk(
    language_model: LanguageModel,
    tokenizer: Any,
    out: Path,
    *,
    name: str,
    source: TrunkRelease | None,
    metrics: Mapping[str, Any],
    lineage: Mapping[str, Any],
    pooling: Pooling | None = None,
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write weights with their language head, tokenizer and manifest; replaces an older result.

    Pooling and prefixes stay the source's. `add` may put further files into the folder, after the
    weights. Of several processes the first alone writes. Raises TrainingFailed.
    """
    if not is_first():
        return
    refuse_foreign(out)
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with quiet_transformers():
            language_model.network.save_pretrained(part, safe_serialization=True)
        _save_tokenizer(tokenizer, source, part)
        if language_model.objective == "clm":
            _write_causal_manifest(part, name, metrics, lineage)
        else:
            write_manifest(
                part,
                name=name,
                pooling=pooling or (source.pooling if source else "mean"),
                query_prefix=source.query_prefix if source else "",
                passage_prefix=source.passage_prefix if source else "",
                metrics=metrics,
                lineage=lineage,
            )
        if add is not None:
            add(part)
        _swap(part, out)
    except (OSError, SafetensorError, RuntimeError) as error:
        if not is_file_fault(error):
            raise
        shutil.rmtree(part, ignore_errors=True)
        raise TrainingFailed(
            f"the model cannot be written to {out} ({error}): make room, then run the same command "
            "again; the training itself is kept and not repeated"
        ) from error


def lineage_of(
    source: TrunkRelease | None, parent: str, data: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a manifest says of where a model came from."""
    try:
        code_version = version("shopstream")
    except PackageNotFoundError:  # run from a source tree that is not installed
        code_version = "unknown"
    return {
        "parent": source.content_id if source else parent,
        "parent_weights": source.weights_checksum if source else None,
        "data": dict(data),
        "options": dict(options),
        "code_version": code_version,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _save_tokenizer(tokenizer: Any, source: TrunkRelease | None, folder: Path) -> None:
    if source is None:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.save_pretrained(folder)
        return
    for file in _TOKENIZER_FILES:
        if (source.folder / file).is_file():
            shutil.copyfile(source.folder / file, folder / file)
    if not (folder / "tokenizer.json").is_file():  # only a vocabulary: write the fast form too
        tokenizer.save_pretrained(folder)


def _write_causal_manifest(
    folder: Path, name: str, metrics: Mapping[str, Any], lineage: Mapping[str, Any]
) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    manifest = {
        "name": name,
        "kind": "causal",
        "checksums": {path.name: file_checksum(path) for path in files},
        "metrics": dict(metrics),
        "lineage": dict(lineage),
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=2)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _swap(part: Path, out: Path) -> None:
    """Put the new folder in the place of the old one."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(part, out)
    shutil.rmtree(old, ignore_errors=True)
