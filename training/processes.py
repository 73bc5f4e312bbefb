"""Several processes of one training (torchrun, accelerate launch): who goes first, who writes.

Each process reads and tokenizes for itself, into a folder of its own; the tokenizer, the plan and
the checkpoints are shared, and the first process alone writes them and the result.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager


def process_number() -> int:
    """Return this process's number among those of the training; 0 where it is the only one."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Say whether this process writes and speaks for all."""
    return process_number() == 0


def are_several() -> bool:
    """Say whether the training is shared by several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leave_at_exit() -> None:
    """Have this process leave the others in order when it ends, and not while Python is torn down.

    A thread of the process group that asks for the interpreter's lock after its end is killed in
    the middle of C++ code, which ends a finished training with SIGABRT now and then. The threads
    end with the group, and the group when nobody holds it. Call it before the group is opened.
    """
    if are_several():
        # The functions of this module hold the group that is open when they are first imported, as
        # the default of an argument, and transformers imports it at some time: so before there is
        # one.
        importlib.import_module("torch.distributed.nn.functional")
        atexit.unregister(_leave)
        atexit.register(_leave)


def _leave() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # a model wrapped to be shared holds the group too, in reference cycles


def wait_for_all() -> None:
    """Return when every process of the training has come here."""
    if are_several():
        leave_at_exit()
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def first_goes_first() -> Iterator[None]:
    """Let the first process through alone, then the others; where it fails, they must not wait.

    Torchrun ends the others when one process fails.
    """
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()
