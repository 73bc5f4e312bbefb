"""Faults of the stream that end the worker: its books no longer prove that nothing is lost.

    ShopstreamError
    └── StreamFault
        ├── LostFetch           records were fetched and never reached the agents
        ├── OffsetsOutOfOrder   a chunk begins before the place where the last one ended
        └── WatermarkStalled    events are in flight that nobody works on

None of them is a person's doing and all are cured by a restart from the committed offsets: stop,
let the supervisor start again, and report the log line as a bug.
"""

from __future__ import annotations

from worker.errors import ShopstreamError


class StreamFault(ShopstreamError):
    """The stream cannot go on without risking events; a restart from the commits is safe."""


class LostFetch(StreamFault):
    """A fetch moved the positions of its partitions, but its records were dropped."""


class OffsetsOutOfOrder(StreamFault):
    """A chunk begins before its partition's expected offset."""


class WatermarkStalled(StreamFault):
    """Events are in flight and nobody works on them, so their offsets will never be committed."""
