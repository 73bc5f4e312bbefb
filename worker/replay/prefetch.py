"""Texts encoded ahead of their batches, in passes as full as the device likes them.

A live batch may hold one event, and a strict replay takes one event a batch; the trunk would then
run on single texts. A text's vector does not depend on what stands beside it (a tested property of
every trunk), so the pass over many batches' texts gives each the bits of its own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from models.text_encoder import Encodings, Role, TextTrunk, Tokens
from worker.events.decode import InvalidEvent
from worker.events.event import Event, Review
from worker.pipeline.pipeline import SENTIMENT
from worker.pipeline.stages import PipelineModels
from worker.pipeline.texts import own_text, tokenize
from worker.pipeline.vector_cache import TextKey

Vector = NDArray[np.float32]
# Of one pass: the fewer operations, the less often they wait for the interpreter lock. With 8,192
# tokens and windows of half a second the trunk's thread took 13 % more of the clock.
PREFETCH_TOKENS = 16_384
_LEAST_CHARACTERS = 8_192
_MOST_CHARACTERS = 65_536
_READ_AHEAD_S = 1.5
_Key = tuple[int, bytes]
_MAX_KEPT = 20_000  # texts; 30 MB of vectors of 384


@dataclass(slots=True)
class _Known:
    vector: Vector
    heads: dict[str, Vector] = field(default_factory=dict)


class PrefetchingTrunk:
    """A `TextTrunk` that answers from what `prefetch` encoded, and asks the trunk for the rest."""

    def __init__(self, trunk: TextTrunk) -> None:
        self.trunk = trunk
        self.width = trunk.width
        self.release = trunk.release
        self.max_tokens = trunk.max_tokens
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._tokens: OrderedDict[tuple[Role, str], Tokens] = OrderedDict()  # of known texts
        self._lock = Lock()
        self._device = Lock()  # one thread at a time may run the trunk
        self._waiting = 0  # who cannot go on without the trunk: reading ahead lets them pass

    def tokenize(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Return the tokens of each text, of one read ahead as they are."""
        with self._lock:
            found = [self._tokens.get((role, text)) for text in texts]
        places = [place for place, one in enumerate(found) if one is None]
        if places:
            made = self.trunk.tokenize([texts[place] for place in places], role)
            with self._lock:
                for place, one in zip(places, made, strict=True):
                    found[place] = self._tokens[role, texts[place]] = one
                while len(self._tokens) > _MAX_KEPT:
                    self._tokens.popitem(last=False)
        return [one for one in found if one is not None]

    def warm_up(self) -> None:
        """Run every shape once."""
        with self._device:
            self.trunk.warm_up()

    def prefetch(self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]]) -> None:
        """Encode texts that a later `encode` will ask for; `head_rows` as there."""
        while self._waiting:
            time.sleep(0.001)
        self._fetch(tokens, head_rows)

    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        """Return vectors (N, D) and the heads' probabilities (rows, C), known ones as they are."""
        if not tokens:
            with self._device:
                return self.trunk.encode(tokens, head_rows)
        self._waiting += 1
        try:
            known = self._fetch(tokens, head_rows)
        finally:
            self._waiting -= 1
        return Encodings(
            np.stack([known[_key(one)].vector for one in tokens]),
            {
                name: np.stack([known[_key(tokens[row])].heads[name] for row in rows])
                for name, rows in head_rows.items()
            },
        )

    def _fetch(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]]
    ) -> Mapping[_Key, _Known]:
        wanted: dict[_Key, set[str]] = {_key(one): set() for one in tokens}
        texts = {_key(one): one for one in tokens}
        for name, rows in head_rows.items():
            for row in rows:
                wanted[_key(tokens[row])].add(name)
        found: dict[_Key, _Known] = {}
        with self._lock:
            for key, heads in wanted.items():
                held = self._known.get(key)
                if held is not None and heads <= held.heads.keys():
                    self._known.move_to_end(key)
                    found[key] = held
        missing = [key for key in wanted if key not in found]
        if missing:
            found.update(self._run(missing, texts, wanted))
        return found

    def _run(
        self,
        keys: Sequence[_Key],
        texts: Mapping[_Key, Tokens],
        wanted: Mapping[_Key, set[str]],
    ) -> dict[_Key, _Known]:
        names = sorted({name for key in keys for name in wanted[key]})
        rows = {
            name: [row for row, key in enumerate(keys) if name in wanted[key]] for name in names
        }
        with self._device:
            encodings = self.trunk.encode([texts[key] for key in keys], rows)
        # copies: a row of a pass holds the whole pass in memory for as long as it is kept
        vectors = zip(keys, encodings.vectors, strict=True)
        found = {key: _Known(vector.copy()) for key, vector in vectors}
        for name in names:
            for row, probabilities in zip(rows[name], encodings.heads[name], strict=True):
                found[keys[row]].heads[name] = probabilities.copy()
        with self._lock:
            for key, one in found.items():
                self._known[key] = one
                self._known.move_to_end(key)
            while len(self._known) > _MAX_KEPT:
                self._known.popitem(last=False)
        return found


def _key(tokens: Tokens) -> _Key:
    return tokens.bucket, tokens.ids.tobytes()


def prefetch_events(
    models: PipelineModels, events: Sequence[Event], passages: Sequence[TextKey] = ()
) -> None:
    """Encode the own texts of events, and passages, ahead of their batches."""
    trunk = models.trunk
    if not isinstance(trunk, PrefetchingTrunk):
        return
    keyed: list[tuple[Event | None, TextKey]] = [
        (event, key) for event in events if (key := own_text(event)) is not None
    ]
    keyed += [(None, key) for key in passages]
    tokens: list[Tokens] = tokenize(trunk, [key for _, key in keyed])
    start, used = 0, 0
    for end, one in enumerate(tokens, 1):
        used += one.bucket
        if used >= PREFETCH_TOKENS or end == len(tokens):
            part = keyed[start:end]
            reviews = [row for row, (event, _) in enumerate(part) if isinstance(event, Review)]
            heads = {SENTIMENT: reviews} if reviews and models.has_sentiment else {}
            trunk.prefetch(tokens[start:end], heads)
            start, used = end, 0


class ReadAhead:
    """How much text to read ahead: what the device needs a second and a half for.

    A quick device wants full passes. A slow one leaves the work on what it read unshared at the
    beginning and at the end of a replay, so there a little is enough.
    """

    def __init__(self) -> None:
        self.characters = _LEAST_CHARACTERS

    def took(self, characters: int, seconds: float) -> None:
        """Learn from what was encoded."""
        if characters < self.characters // 2:  # the end of the log, or nothing to encode
            return
        if seconds < _READ_AHEAD_S / 2:
            self.characters = min(2 * self.characters, _MOST_CHARACTERS)
        elif seconds > 2 * _READ_AHEAD_S:
            self.characters = max(self.characters // 2, _LEAST_CHARACTERS)


def text_size(event: Event | InvalidEvent) -> int:
    """Return about how many characters of an event a trunk reads; 0 where it reads none."""
    found = None if isinstance(event, InvalidEvent) else own_text(event)
    return 0 if found is None else max(16, len(found[1]))
