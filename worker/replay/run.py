"""One replay from beginning to end: what to read and in which order; a document.

The document is what `--json` prints and what the HTML report shows.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from worker.flow.interpreter import tune_interpreter
from worker.replay.compare_run import compare
from worker.replay.follow_run import follow
from worker.replay.recordings.faults import Faults
from worker.replay.sources import (
    BadReplay,
    Progress,
    ReplayJob,
    note_settings,
    open_recording,
    recording_folder,
    recording_json,
)
from worker.settings import Settings

# Texts are encoded in a thread beside the one that ranks, which is never idle and so keeps the
# interpreter lock until it is asked: 2.42 ms an event instead of 2.62 with a worker's interval.
_SWITCH_INTERVAL_S = 0.00005


async def run_replay(
    settings: Settings, job: ReplayJob, progress: Progress | None = None
) -> dict[str, Any]:
    """Replay and return the document. Raises ShopstreamErrors that say what to do."""
    started_s = time.perf_counter()
    tune_interpreter(_SWITCH_INTERVAL_S)
    if job.journal is not None and job.redis_prefix is not None:
        raise BadReplay(
            "--journal goes on with state in memory: leave --redis-prefix, or leave --journal"
        )
    faults = Faults(job.on_error)
    with recording_folder(job) as folder:
        recording = await open_recording(settings, job, folder, faults, progress)
        note_settings(settings, recording)
        order = job.order
        if order == "auto":
            compares = bool(job.releases or job.variants)
            order = "batches" if recording.has_batches and not compares else "time"
        if order == "batches":
            document = await follow(settings, job, recording, progress)
        else:
            document = await compare(settings, job, recording, progress)
    return {
        "command": job.command,
        "order": order,
        "recording": recording_json(recording),
        **document,
        "faults": faults.as_json(),
        "seconds": round(time.perf_counter() - started_s, 3),
        "peak_resident_mb": round(_peak_resident_mb(), 1),
    }


def _peak_resident_mb() -> float:
    # Not ru_maxrss where it can be helped: a process inherits that of the one that started it.
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
