"""Ports for processes that cannot choose one themselves."""

import itertools
import os
import random
import socket
from collections.abc import Iterator

_LOWEST, _SHARE = 10_000, 1_000
_SHARES = 20
"""Below 32,768, where Linux begins to give ports to whoever asks for any: between the moment in which a test finds such a port free and
the one in which its process listens there, a connection of another test would sooner or later get it."""


def _candidates() -> Iterator[int]:
    """Of this process of pytest-xdist alone; begun anywhere, for a second pytest on the same machine."""
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    ports = range(_LOWEST + share * _SHARE, _LOWEST + (share + 1) * _SHARE)
    start = random.SystemRandom().randrange(_SHARE)
    return itertools.cycle([*ports[start:], *ports[:start]])


_ports = _candidates()


def free_port() -> int:
    """One that nobody listens on, on any address of this machine, and that this process has not given lately."""
    for port in itertools.islice(_ports, _SHARE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as those who will listen do
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"all ports from {_LOWEST} on that this process may take are in use")
