"""A server whose truth is known, in a process of its own: `python -m tests.loadgen.fidelity_server --help`.

It answers as DeepDetect does, whatever the image. Request n (from 0, those that warm up too) needs the n-th time of a stated
sequence, on the first of its servers that is free, in the order in which requests were complete. Of each it notes when that
was, when the answer was due by this rule, and when it went out, on `time.perf_counter`, which all processes of a machine
share; at its end (SIGTERM, Ctrl-C) it writes them down. `head.worker` is n: so a record can be laid beside its truth.
"""

import argparse
import asyncio
import ctypes
import heapq
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Self, cast

import msgspec
import uvloop

ROOT = Path(__file__).parents[2]
END_S = 60.0
"""How long it may take to start or to end."""
STALL_S = 1.0
_TFD_TIMER_ABSTIME = 1
_TIMES = "constant:S, lognormal:MEAN:CV, bimodal:FAST:SLOW:SHARE_OF_SLOW or stall:S:NUMBER"


class Truth(msgspec.Struct, frozen=True):
    """One request, as the server saw it. Moments are on `time.perf_counter`."""

    number: int
    arrived: float
    """When all of it was there."""
    due: float
    """When its answer was, by the rule of the queue."""
    answered: float
    """When its answer was handed to the kernel."""

    @property
    def server_s(self) -> float:
        """What it took here."""
        return self.answered - self.arrived


def service_times(text: str, seed: int = 1) -> Iterator[float]:
    """The sequence of service times in seconds, without an end. Raises ValueError.

    `stall:S:NUMBER`: all take S, but request NUMBER takes STALL_S more.
    """
    kind, *parts = text.split(":")
    numbers = [float(part) for part in parts]
    random = Random(f"{text}/{seed}")
    match kind, numbers:
        case "constant", [seconds]:
            return repeat(seconds)
        case "lognormal", [mean, variation]:
            variance = math.log1p(variation**2)  # of the logarithm
            return (
                mean * math.exp(random.gauss(-variance / 2, math.sqrt(variance))) for _ in repeat(None)
            )  # gauss: one sequence, by Python's promise
        case "bimodal", [fast, slow, share]:
            return (slow if random.random() < share else fast for _ in repeat(None))
        case "stall", [seconds, at]:
            return chain(repeat(seconds, int(at)), (seconds + STALL_S,), repeat(seconds))
        case _:
            raise ValueError(f"{text}: no sequence of service times; write {_TIMES}")


class Queue:
    """First come, first served, by as many servers; None: by so many that nobody waits."""

    def __init__(self, servers: int | None) -> None:
        self._free = [-math.inf] * (servers or 0)
        """When each server is free again; a heap."""

    def leave(self, arrived: float, service_s: float) -> float:
        """When a request that comes now is done. Arrivals must ascend."""
        if not self._free:
            return arrived + service_s
        done = max(arrived, self._free[0]) + service_s
        heapq.heapreplace(self._free, done)
        return done


def replay(arrivals: Iterable[float], times: Iterable[float], servers: int | None) -> list[float]:
    """What the theory says: when each of the arrivals (ascending) would be done."""
    queue = Queue(servers)
    return [queue.leave(arrived, service_s) for arrived, service_s in zip(arrivals, times, strict=False)]


class Alarm:
    """A timerfd: the timers of uvloop end at whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")

    def set(self, due: float) -> None:
        """Make `file` readable at that time on `time.perf_counter`."""
        nanoseconds = max(1, int(due * 1e9))  # 0 would disarm it
        when = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 1_000_000_000))
        self._libc.timerfd_settime(self.file, _TFD_TIMER_ABSTIME, when, None)


class Desk:
    """Numbers the requests, knows when each is due, and sends the answers then."""

    def __init__(self, times: Iterator[float], servers: int | None) -> None:
        self.truths: list[Truth] = []
        self._times = times
        self._queue = Queue(servers)
        self._waiting: list[tuple[float, int, float, asyncio.Transport]] = []
        """(due, number, arrived, whom to answer); a heap."""
        self._number = 0
        self._alarm = Alarm()
        asyncio.get_running_loop().add_reader(self._alarm.file, self._on_alarm)

    def take(self, transport: asyncio.Transport) -> None:
        """A request is complete."""
        arrived = time.perf_counter()
        service_s = next(self._times)
        due = self._queue.leave(arrived, service_s)
        heapq.heappush(self._waiting, (due, self._number, arrived, transport))
        self._number += 1
        self._answer()

    def _on_alarm(self) -> None:
        with suppress(BlockingIOError):  # a request came first, was answered, and set it anew
            os.read(self._alarm.file, 8)
        self._answer()

    def _answer(self) -> None:
        """All that is due; then set the alarm for the next."""
        while self._waiting and self._waiting[0][0] <= time.perf_counter():
            due, number, arrived, transport = heapq.heappop(self._waiting)
            content = _answer(number, due - arrived)
            answered = time.perf_counter()
            if not transport.is_closing():  # whoever asked may have gone
                transport.write(content)
            self.truths.append(Truth(number, arrived, due, answered))
        if self._waiting:
            self._alarm.set(self._waiting[0][0])


def _encode(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )


_INFO = _encode(json.dumps({"head": {"services": [{"name": "truth"}], "dlserve": {"workers": []}}}).encode())
_CLASSES = json.dumps([{"prob": 0.1, "cat": "n02123045 tabby, tabby cat"}] * 5).encode()
_ANSWER = (
    b'{"status":{"code":200},"head":{"method":"/predict","cache":"warm","worker":%d,"time":%.4f,"timing":{"forward":%.7f}},'
    b'"body":{"predictions":[{"uri":"0","classes":' + _CLASSES + b"}]}}"
)


def _answer(number: int, seconds: float) -> bytes:
    """About 500 bytes, as a network with five classes asked for sends them."""
    return _encode(_ANSWER % (number, seconds * 1e3, seconds))


class Session(asyncio.Protocol):
    """One connection: GET tells of the server, anything with a body is a request."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._head = b""
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            self._head = b"" if end else head
            if not end:
                return
            if head.startswith(b"GET"):
                self._transport.write(_INFO)
                return
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            assert length is not None
            self._missing = int(length[1])
        self._missing -= len(data)
        if not self._missing:
            self._desk.take(self._transport)


async def serve(listener: socket.socket, times: Iterator[float], servers: int | None) -> list[Truth]:
    """Until SIGTERM or SIGINT; what was seen, by number."""
    desk = Desk(times, servers)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: Session(desk), sock=listener)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await ended.wait()
    server.close()
    return sorted(desk.truths, key=lambda truth: truth.number)


class FidelityServer:
    """The server as a process: entered, it has an address; left, `truths` holds what it saw, by number."""

    def __init__(self, folder: Path, times: str, servers: int | None = None, seed: int = 1) -> None:
        self.url = ""
        self.truths: list[Truth] = []
        self._file = folder / "truth.jsonl"
        self._command = [sys.executable, "-m", "tests.loadgen.fidelity_server", "--times", times, "--seed", str(seed)]
        self._command += ["--servers", str(servers or 0), "--port", "0", "--truth", str(self._file)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the server did not start: exit code {self._process.wait(END_S)}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=END_S)
        finally:
            self._process.kill()
        self.truths = read_truths(self._file)


def read_truths(path: Path) -> list[Truth]:
    """What a server wrote down at its end."""
    return [msgspec.json.decode(line, type=Truth) for line in path.read_bytes().splitlines()]


def main() -> None:
    """Serve until told to stop; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", default="constant:0.005", help=f"{_TIMES}, in seconds. Default: constant:0.005.")
    parser.add_argument("--servers", type=int, default=0, help="Of the queue. Default: 0, so many that nobody waits.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--truth", type=Path, metavar="FILE", help="Where to write down what was seen.")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.port))
    truths = uvloop.run(serve(listener, service_times(options.times, options.seed), options.servers or None))
    if options.truth is not None:
        encoder = msgspec.json.Encoder()
        options.truth.write_bytes(b"".join(encoder.encode(truth) + b"\n" for truth in truths))


if __name__ == "__main__":
    main()
