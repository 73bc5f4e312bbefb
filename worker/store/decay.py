"""Popularity by forward decay: a purchase at time t counts 2^((t - landmark) / half-life).

Adding such weights needs no touch of older counts; dividing by the weight of "now" gives purchases
decayed to now. The landmark is the start of a span of 128 half-lives that holds the newest purchase
(spans are counted from 1970), so weights stay between 1 and 2^128 and moving to a later span is a
multiplication by a power of two, which is exact: the landmark never depends on what came first.
Source: Cormode et al., "Forward Decay" (ICDE 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SPAN_HALF_LIVES = 128


@dataclass(frozen=True, slots=True)
class Decay:
    """Weights for one half-life, in milliseconds."""

    half_life_ms: float

    @property
    def span_ms(self) -> float:
        """Length of a span, in milliseconds."""
        return self.half_life_ms * SPAN_HALF_LIVES

    def span_of(self, time_ms: int) -> int:
        """Return the number of the span that holds this moment."""
        return math.floor(time_ms / self.span_ms)

    def weight(self, time_ms: int, span: int) -> float:
        """Return what one purchase at `time_ms` counts, seen from the landmark of `span`."""
        return power_of_two((time_ms - span * self.span_ms) / self.half_life_ms)


def power_of_two(exponent: float) -> float:
    """Return 2^exponent; 0 below the smallest double, as the C library (and so Lua) has it."""
    try:
        return math.pow(2.0, exponent)
    except OverflowError:
        return math.inf


def _significant(number: float) -> float:
    # twelve digits: what the order of additions changes lies beyond them
    return float(f"{number:.12g}")


def between_spans(older: int, newer: int) -> float:
    """Return the factor that carries a weight from the landmark of `older` to that of `newer`."""
    return power_of_two(-SPAN_HALF_LIVES * float(newer - older))


@dataclass(frozen=True, slots=True)
class Popular:
    """The clock of a popularity list: the landmark's span and the newest purchase."""

    decay: Decay
    span: int
    newest_ms: int

    def decayed(self, ranking: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
        """Return the scores as purchases decayed to the newest purchase, in the same order."""
        now = self.decay.weight(self.newest_ms, self.span)
        return [(product, _significant(score / now)) for product, score in ranking]
