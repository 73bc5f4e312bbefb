"""`shopstream.json`: what a release folder says of itself.

One format for a trunk alone and for a whole release (trunk, heads, recommender): the fields of the
second have defaults, so a trunk's folder is the small case. `release_id` is content-addressed: it
names the files by their checksums, whoever made them and when.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.releases.gate_record import GateDecision

Pooling = Literal["mean", "cls"]

MANIFEST = "shopstream.json"
FORMAT_VERSION = 1  # of releases; raised when an older shopstream could not serve a newer folder
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}-[0-9a-f]{12}")


class ModelUnavailable(Exception):
    """A model cannot be used; the message is one sentence that says why and what to do."""


class ManifestUnreadable(ModelUnavailable):
    """A manifest is missing, no JSON, or not of a form that this shopstream knows."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Prefixes(_Part):
    """What is set before a text, by its role; unset: what the trunk's family is known to want."""

    query: str | None = None
    passage: str | None = None


class TrainedOn(_Part):
    """The samples one part of a release was trained on."""

    kind: str = Field(description="Kind of sample: review, next-item, search, answer.")
    samples: int
    shoppers: int
    first: str | None = Field(description="occurred_at of the oldest, RFC 3339.")
    last: str | None
    warm_start: bool = Field(
        False, description="Training went on from the parent's weights: its shoppers count too."
    )


class ReleaseManifest(_Part):
    """A release or a trunk. Raises pydantic's ValidationError where a field is not of its form."""

    format: int = FORMAT_VERSION
    name: str = ""
    pooling: Pooling | None = None
    prefixes: Prefixes = Prefixes()
    checksums: dict[str, str] = Field({}, description="Path in the folder -> sha256 as hex digits.")
    sizes_bytes: dict[str, int] = {}
    metrics: dict[str, Any] = {}
    lineage: dict[str, Any] = {}
    # --- a whole release only
    release_id: str | None = None
    parents: tuple[str, ...] = ()
    data: dict[str, TrainedOn] = Field({}, description="Part -> what it was trained on.")
    code_version: str = ""
    seed: int | None = None
    gate: tuple[GateDecision, ...] = ()
    created_at: str = ""

    @field_validator("checksums")
    @classmethod
    def _stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for path in value:
            pure = PurePosixPath(path)
            if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
                raise ValueError(f"{path!r} leads out of the folder")
        return value

    @property
    def total_bytes(self) -> int:
        """The size of all files, as the manifest states it."""
        return sum(self.sizes_bytes.values())

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts besides the trunk: `sentiment`, `recommender` …, sorted."""
        heads = {path.split("/")[1] for path in self.checksums if path.startswith("heads/")}
        folders = {path.split("/")[0] for path in self.checksums if "/" in path}
        return tuple(sorted(heads | (folders & {"recommender", "product_vectors"})))

    def content_release_id(self) -> str:
        """Return `<name>-<12 hex digits>`: a hash of the checksums, pooling and prefixes."""
        rows = [f"{path}={self.checksums[path]}" for path in sorted(self.checksums)]
        rows.append(json.dumps([self.pooling, self.prefixes.query, self.prefixes.passage]))
        return f"{self.name}-{hashlib.sha256(chr(10).join(rows).encode()).hexdigest()[:12]}"

    def to_json(self) -> str:
        """Return the text of `shopstream.json`."""
        value = self.model_dump(mode="json", exclude_defaults=True) | {"format": self.format}
        return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def read_manifest(folder: Path) -> ReleaseManifest | None:
    """Return the manifest of a folder, None where it has none; raises ManifestUnreadable."""
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestUnreadable(f"{path} cannot be read ({error.strerror}).") from error


def parse_manifest(content: bytes, shown: str) -> ReleaseManifest:
    """Return the manifest in `content`; `shown` names it in errors. Raises ManifestUnreadable."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ManifestUnreadable(f"{shown} is no JSON: copy the model again.") from error
    if not isinstance(value, Mapping):
        raise ManifestUnreadable(f"{shown} must hold a JSON object: copy the model again.")
    version = value.get("format", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ManifestUnreadable(
            f"{shown} has format {version!r}, this shopstream reads up to {FORMAT_VERSION}: "
            "update shopstream, or use an older release."
        )
    try:
        return ReleaseManifest.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(step) for step in fault["loc"])
        raise ManifestUnreadable(
            f"{shown} says {place} {fault['input']!r}, which is wrong ({fault['msg']})."
        ) from error


def file_checksum(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
