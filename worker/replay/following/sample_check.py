"""Holds the samples of a replay against the recorded ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.pipeline.batch import OutTopic
from worker.replay.following.differences import Differences
from worker.replay.following.follower import FollowedBatch
from worker.replay.following.on_disk import KeysOnDisk
from worker.replay.recordings.recording import Recording


class SampleCheck:
    """Compares the samples of a replay with the recorded ones, byte for byte.

    A batch that was sent twice leaves its samples twice, so copies do not count. Digests of 16
    bytes stand for the samples, on disk: a log has any number of them.
    """

    def __init__(self, recording: Recording, folder: Path | None = None) -> None:
        """Compare with those of `recording`; digests go to `folder`, else to a temporary file."""
        self._recording = recording
        self._topic = recording.layout.samples
        self._made, self._perhaps, self._live = (
            KeysOnDisk(None if folder is None else folder / f"{name}.sqlite")
            for name in ("made", "perhaps", "live")
        )
        self._unconfirmed = False

    @property
    def possible(self) -> bool:
        """Whether the recording holds samples."""
        return bool(self._recording.partitions(self._topic))

    def add(self, batch: FollowedBatch) -> None:
        """Take the samples of a replayed batch."""
        if batch.outcome is None:
            self._unconfirmed = True
            for one in batch.perhaps_sent:
                self._perhaps.add(_digest(one.value or b""))
            return
        for message in batch.outcome.messages:
            if message.topic is OutTopic.SAMPLES and message.value is not None:
                self._made.add(_digest(message.value), message.key.decode(errors="replace"))

    def compare(self) -> Differences:
        """Return how the samples compare.

        What a batch sent before the crash that left it unconfirmed is no difference; its answers
        cannot be told apart from others, because nobody knows which products it met.
        """
        found = Differences()
        for partition in self._recording.partitions(self._topic):
            for stored in self._recording.log(self._topic, partition).read(0):
                value = stored.value or b""
                digest = _digest(value)
                if not self._live.add(digest):
                    continue
                if digest in self._made:
                    found.equal += 1
                elif digest not in self._perhaps and not self._is_lost_answer(value):
                    found.compare((stored.key or b"").decode(errors="replace"), value, None)
        for digest, key in self._made.items():
            if digest not in self._live:
                found.compare(key, None, b"(of the replay only)")
        for keys in (self._made, self._perhaps, self._live):
            keys.close()
        return found

    def _is_lost_answer(self, value: bytes) -> bool:
        return self._unconfirmed and b'"kind":"answer"' in value


def _digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()
