"""How the Python interpreter is set for a worker: threads that take turns often, a calm collector.

The model's thread gives the interpreter lock away at every operation and must get it back as often.
With the stock interval each time may cost 5 ms while another thread ranks: more than the operation.
"""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.0005
# New containers before a collection: a batch makes tens of thousands and drops nearly all of them
# without any help, for they stand in no cycle.
YOUNG_OBJECTS = 50_000


def tune_interpreter(switch_interval_s: float = SWITCH_INTERVAL_S) -> None:
    """Set the interpreter for a process of threads that work on batches; call it once, early."""
    sys.setswitchinterval(switch_interval_s)
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)


def keep_loaded() -> None:
    """Exempt what is loaded by now (modules, models, products) from every later collection."""
    gc.collect()
    gc.freeze()
