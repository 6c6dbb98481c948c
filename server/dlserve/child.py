"""One child process of the supervisor: its process, the line to it, and what its end means."""

import logging
import os
import signal
import socket
import subprocess

from dlserve.control import STOP, EventReader

log = logging.getLogger(__name__)
FRONT = -1
"""The front end's number; workers count from 0."""


class Child:
    """One child process and the line to it."""

    def __init__(self, number: int, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self.events = EventReader(channel)
        self.pidfd = os.pidfd_open(process.pid)
        self.ready = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return "front end" if self.number == FRONT else f"worker {self.number}"

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


def describe_exit(code: int) -> str:
    """An exit status in words; a negative one is the signal that ended the process."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name} (perhaps the kernel's out-of-memory killer)" if -code == signal.SIGKILL else name
