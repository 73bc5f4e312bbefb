"""Runs one server and ends it when the process that started the guard is gone, however it went.

Started by `guarded_process` as a program of its own, `python guard.py SECONDS FOLDER COMMAND…`:
prints the server's pid, then waits. The end of standard input sends SIGTERM to the server, and
SIGKILL after SECONDS. A starter that stops it in order writes something first; one that died, even
by SIGKILL, did not, and then nobody else would remove FOLDER (when it is not empty text).
A pipe, and not PR_SET_PDEATHSIG: that fires when the starting thread ends, and on Linux only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def main(stop_s: float, folder: str, command: list[str]) -> int:
    """Run `command` until it ends or standard input does; return its status (128 + a signal)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=_restore_signals
    )
    os.write(1, f"{server.pid}\n".encode())
    orphaned = threading.Event()
    threading.Thread(target=_end_with_starter, args=(server, stop_s, orphaned), daemon=True).start()
    status = server.wait()
    if folder and orphaned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _restore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_starter(
    server: subprocess.Popen[bytes], stop_s: float, orphaned: threading.Event
) -> None:
    said_stop = False
    while os.read(0, 1024):
        said_stop = True
    if not said_stop:
        orphaned.set()
    server.terminate()
    try:
        server.wait(stop_s)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
