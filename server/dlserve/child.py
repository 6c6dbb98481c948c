"""One child process of the supervisor: its process, the line to it, and what its end means."""

import logging
import os
import signal
import socket
import subprocess

from dlserve.control import STOP, EventReader
from dlserve.pulse import Pulse

log = logging.getLogger(__name__)
FRONT = -1
"""The first front end's number; others count down from it, workers up from 0."""


def is_front(number: int) -> bool:
    """Whether a child's number is a front end's."""
    return number <= FRONT


class Child:
    """One child process and the line to it."""

    def __init__(self, number: int, name: str, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        """`name`: what messages call it."""
        self.number = number
        self.name = name
        self.process = process
        self.channel = channel
        self.events = EventReader(channel)
        self.pidfd = os.pidfd_open(process.pid)
        self.ready = False
        self.drained = False
        """Of a front end: it needs no worker any more."""
        self.deals: socket.socket | None = None
        """Where a front end of several is given connections."""
        self.dealt = 0
        """How many it was given."""
        self.pulse: Pulse | None = None
        """Of a front end that is ready."""

    @property
    def is_front(self) -> bool:
        """Whether it speaks HTTP."""
        return is_front(self.number)

    @property
    def place(self) -> int:
        """Which front end it is, from 0."""
        return FRONT - self.number

    def stop(self) -> None:
        """Ask it to finish what it has and to exit."""
        try:
            self.channel.sendall(STOP)
        except OSError:
            log.debug("%s has gone already", self.name)

    def close(self) -> None:
        """Release what the supervisor holds of a child that has ended."""
        os.close(self.pidfd)
        self.channel.close()
        if self.deals is not None:
            self.deals.close()


def describe_exit(code: int) -> str:
    """An exit status in words; a negative one is the signal that ended the process."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name} (perhaps the kernel's out-of-memory killer)" if -code == signal.SIGKILL else name
