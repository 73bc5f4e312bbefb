"""The brake on a repeating logger."""

from __future__ import annotations

import logging

from worker.stream.log_limiter import RepeatLimiter


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def line(message: str, name: str = "aiokafka.conn") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    """Three of ten pass; the first of the next window tells of the seven left out."""
    clock = Clock()
    limiter = RepeatLimiter("aiokafka", burst=3, window_s=10.0, clock=clock)
    assert [limiter.filter(line("no broker")) for _ in range(10)] == [True] * 3 + [False] * 7
    clock.now_s = 10.0
    after = line("no broker")
    assert limiter.filter(after)
    assert after.getMessage() == "no broker (and 7 more like it, not logged)"


def test_other_messages_and_other_loggers_are_not_braked() -> None:
    """Each template has a burst of its own, and only the family is limited."""
    limiter = RepeatLimiter("aiokafka", burst=1, clock=Clock())
    assert limiter.filter(line("a"))
    assert limiter.filter(line("b"))
    assert not limiter.filter(line("a"))
    assert all(limiter.filter(line("a", "aiokafkaesque")) for _ in range(3))
    assert all(limiter.filter(line("a", "worker.stream")) for _ in range(3))
