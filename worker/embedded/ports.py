"""Free TCP ports of this machine, so that ports already in use are no problem."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of the loopback address that nobody listens on now.

    Another process may take one before it is used: whoever starts a server on it tries again.
    """
    held = [socket.socket() for _ in range(count)]
    try:
        for sock in held:
            sock.bind((LOOPBACK, 0))
        return [int(sock.getsockname()[1]) for sock in held]
    finally:
        for sock in held:
            sock.close()


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server accepts connections on this port."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
