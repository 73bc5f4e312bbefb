"""What arms made of events, kept as a replay goes: one that was cut short goes on from there.

A resumed replay does the steps on the state again, which is quick, and takes what models said from
the journal instead of asking them; the bytes are those of a replay that ran through. Frames of some
hundred batches, compressed; a torn last one is left out and made again.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import IO, Any

import orjson

from worker.errors import ShopstreamError
from worker.pipeline.batch import Outcome, OutMessage, OutTopic
from worker.replay.comparing.outcomes import ArmSpec
from worker.replay.recordings.recording import Recording, result_settings
from worker.settings import Settings
from worker.store.contract import ResultKind, ResultWrite, SentimentCount, Version

_LENGTH = struct.Struct("<I")
_FRAME_BATCHES = 256
_FORMAT = 3
Entry = tuple[int, dict[str, Any]]  # batch number, arm -> what it made


class JournalUnfit(ShopstreamError):
    """The journal is of another replay; the message says what to do."""


class Journal:
    """Reads what stands there, then appends."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Open or begin a journal. Raises JournalUnfit: of other events, arms, settings, format."""
        self._path = path
        self._file: IO[bytes] | None = None
        self._frame: list[Entry] = []
        self._good_bytes = 0
        self._standing = self._entries()
        about = {"fingerprint": fingerprint, "format": _FORMAT}
        header = next(self._standing, None)
        if header is not None and header[1] != about:
            raise JournalUnfit(
                f"{path} is the journal of a replay of other events, releases or settings: name "
                "another file, or remove it"
            )
        self._next = next(self._standing, None) if header is not None else None
        if header is None:
            self._append((0, about))
            self.flush()

    @property
    def is_ahead(self) -> bool:
        """Whether it holds batches that were not taken yet."""
        return self._next is not None

    def take(self, number: int) -> Mapping[str, tuple[Outcome, float, float]] | None:
        """Return what each arm made of a batch: outcome, seconds of encoding and of ranking."""
        if self._next is None:
            return None
        at, made = self._next
        if at != number:
            raise JournalUnfit(f"{self._path} holds batch {at} where {number} comes: remove it")
        self._next = next(self._standing, None)
        return {arm: (_outcome(one), one["encode_s"], one["rank_s"]) for arm, one in made.items()}

    def add(self, number: int, made: Mapping[str, tuple[Outcome, float, float]]) -> None:
        """Keep what each arm made of a batch."""
        self._append(
            (
                number,
                {
                    arm: {**_stored(outcome), "encode_s": encode_s, "rank_s": rank_s}
                    for arm, (outcome, encode_s, rank_s) in made.items()
                },
            )
        )

    def flush(self) -> None:
        """Bring all to disk."""
        if not self._frame:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("r+b" if self._path.exists() else "w+b")
            self._file.truncate(self._good_bytes)
            self._file.seek(self._good_bytes)
        content = zlib.compress(orjson.dumps(self._frame), 1)
        self._file.write(_LENGTH.pack(len(content)) + content)
        self._file.flush()
        self._frame = []

    def close(self) -> None:
        """Write what is left and let the file go."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _append(self, entry: Entry) -> None:
        self._frame.append(entry)
        if len(self._frame) >= _FRAME_BATCHES:
            self.flush()

    def _entries(self) -> Iterator[Entry]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while True:
                head = file.read(_LENGTH.size)
                content = file.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
                try:
                    frame = orjson.loads(zlib.decompress(content))
                except (zlib.error, ValueError):
                    return
                self._good_bytes = file.tell()
                yield from frame


def fingerprint(
    order: str, arms: Sequence[ArmSpec], recording: Recording, from_ms: int, settings: Settings
) -> str:
    """Return what a journal must be of to be gone on with."""
    counts = {
        topic: {number: facts.records for number, facts in partitions.items()}
        for topic, partitions in recording.facts.topics.items()
    }
    parts = [
        order,
        *(f"{arm.name} {arm.models.release} {arm.options!r}" for arm in arms),
        repr(sorted((topic, sorted(numbers.items())) for topic, numbers in counts.items())),
        str(from_ms),
        repr(sorted(result_settings(settings).items())),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stored(outcome: Outcome) -> dict[str, Any]:
    return {
        "batch_id": outcome.batch_id,
        "sequence": outcome.sequence,
        "results": [
            [one.kind.value, one.id, one.version[0], one.version[1], one.value.decode(), one.ttl_s,
             one.user_id, None if one.sentiment is None else astuple(one.sentiment)]
            for one in outcome.results
        ],
        "messages": [
            [one.topic.value, one.key.decode(), None if one.value is None else one.value.decode(),
             one.event_id]
            for one in outcome.messages
            if one.topic in (OutTopic.SAMPLES, OutTopic.PRODUCT_VECTORS)
        ],
    }  # fmt: skip


def _outcome(stored: Mapping[str, Any]) -> Outcome:
    results = [
        ResultWrite(
            ResultKind(kind),
            id,
            Version(at_ms, event_id),
            value.encode(),
            ttl_s,
            user_id,
            None if vote is None else SentimentCount(*vote),
        )
        for kind, id, at_ms, event_id, value, ttl_s, user_id, vote in stored["results"]
    ]
    messages = [
        OutMessage(
            OutTopic(topic),
            key.encode(),
            None if value is None else value.encode(),
            event_id=event_id,
        )
        for topic, key, value, event_id in stored["messages"]
    ]
    return Outcome(stored["batch_id"], results, messages, stored["sequence"])
