"""Tokenized texts on disk, read by memory mapping: a set of texts larger than memory can be learnt.

Three flat files: `ids` (uint32), `words` (uint16: neighbours of one number belong to one word, 0 is
never masked) and `ends` (int64: where each piece ends). A piece is what one example can hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.loop.options import TrainingFailed

_IDS, _WORDS, _ENDS, _DOCUMENTS = "ids.u32", "words.u16", "ends.i64", "documents.i64"
MAX_WORDS = 65_535
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Piece:
    """Token ids (n) of a text or a part of one, and the word each belongs to (n)."""

    ids: NDArray[np.uint32]
    words: NDArray[np.uint16]


class TokenWriter:
    """Appends pieces to the files of a folder; open it with `with`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._tokens = 0

    def __enter__(self) -> TokenWriter:
        for name in (_IDS, _WORDS, _ENDS, _DOCUMENTS):
            self._files[name] = (self._folder / name).open("wb")
        return self

    def add(self, ids: Sequence[int], words: Sequence[int] = (), document: int = 0) -> None:
        """Append a piece; without `words` each token is a word of its own."""
        numbers = np.asarray(words if len(words) else range(1, len(ids) + 1))
        self._tokens += len(ids)
        with self._told():
            self._files[_IDS].write(np.asarray(ids, dtype=np.uint32).tobytes())
            self._files[_WORDS].write(np.minimum(numbers, MAX_WORDS).astype(np.uint16).tobytes())
            self._files[_ENDS].write(np.int64(self._tokens).tobytes())
            self._files[_DOCUMENTS].write(np.int64(document).tobytes())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._told():
            for file in self._files.values():
                file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingFailed(
                f"{self._folder} cannot be written ({error}): make room, then run the "
                "same command again"
            ) from error


class TokenStore:
    """Random access to the pieces of a folder that `TokenWriter` filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: NDArray[np.uint32] = _map(folder / _IDS, np.uint32)
        self.words: NDArray[np.uint16] = _map(folder / _WORDS, np.uint16)
        self.documents: NDArray[np.int64] = _map(folder / _DOCUMENTS, np.int64)
        self._ends: NDArray[np.int64] = _map(folder / _ENDS, np.int64)

    @classmethod
    def of(cls, folder: Path, pieces: Iterable[Sequence[int]]) -> TokenStore:
        """Write pieces of token ids into a folder and open it."""
        with TokenWriter(folder) as writer:
            for ids in pieces:
                writer.add(ids)
        return cls(folder)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._ends)

    def __getitem__(self, row: int) -> Piece:
        """Return a piece by its number."""
        start = int(self._ends[row - 1]) if row else 0
        end = int(self._ends[row])
        return Piece(self.ids[start:end], self.words[start:end])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of each piece (n)."""
        return np.diff(self._ends, prepend=0)


def _map(path: Path, number: type[_Number]) -> NDArray[_Number]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=number)
    return np.memmap(path, dtype=number, mode="r")
