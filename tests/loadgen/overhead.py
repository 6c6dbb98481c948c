"""What the stream's own code costs: run `python tests/loadgen/overhead.py`; no test, and nothing is judged.

A server of constant cost in a process of its own answers 60 KB requests with 600 bytes of JSON. It is asked (1) by a plain
blocking socket in a loop, the least that Python can do, (2) by the whole stream in Locust, (3) by Locust's FastHttpUser.
The difference of the medians of (2) and (1) is what a latency of the stream holds of the client's own; CPU is per request.
"""

import asyncio
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import cast

import uvloop
from dlclient.results import read_records

REQUESTS = 10_000
IMAGE = b"\xff\xd8" + os.urandom(60_000)
HEAD = {"method": "/predict", "time": 0.1, "timing": {"wire": 1e-5, "forward": 1e-4}, "cache": "warm", "worker": 0}
CLASSES = [{"prob": 0.1, "cat": "n02123045 tabby, tabby cat"}] * 5
ANSWER = {"status": {"code": 200}, "head": HEAD, "body": {"predictions": [{"uri": "0", "classes": CLASSES}]}}
INFO = {"head": {"services": [{"name": "zero"}], "dlserve": {"workers": []}}}
FAST = """
import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser
image = open("image.jpg", "rb").read()
class Fast(FastHttpUser):
    host = "{url}"
    left = {requests}
    @task
    def ask(self):
        Fast.left -= 1
        if Fast.left >= 0:
            self.client.post("/predict/zero?best=5", data=image, headers={{"Content-Type": "image/jpeg"}})
            return
        if Fast.left == -1:
            gevent.spawn(self.environment.runner.quit)
        raise StopUser
"""
Way = Callable[[str, Path, int], list[float]]
"""Address, folder to work in, number of requests -> latencies in seconds, where they are known exactly."""


def encode(answer: object) -> bytes:
    content = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content


class Zero(asyncio.Protocol):
    """Answers as soon as the request is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, _, data = data.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                self._transport.write(encode(INFO))
                return
            self._missing = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        self._missing -= len(data)
        if not self._missing:
            self._transport.write(encode(ANSWER))


def serve(listener: socket.socket) -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_server(Zero, sock=listener)
        await asyncio.Event().wait()

    uvloop.run(forever())


def ask_plainly(url: str, _: Path, requests: int) -> list[float]:
    host, port = url.removeprefix("http://").split(":")
    request = b"POST /predict/zero HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
    size = len(encode(ANSWER))
    times: list[float] = []
    with socket.create_connection((host, int(port))) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _number in range(requests):
            began = perf_counter()
            connected.sendall(request)
            received = 0
            while received < size:
                received += len(connected.recv(65536))
            times.append(perf_counter() - began)
    return times


def stream(users: int) -> Way:
    def run(url: str, folder: Path, requests: int) -> list[float]:
        file = Path(__file__).parents[2] / "loadgen" / "stream.py"
        options = ["--phases", "warm", "--images", ".", "--results", "out", "--overwrite", "--no-report"]
        locust(folder, file, *options, "-u", str(users), "--requests", str(requests), "-H", url)
        return [record.latency_s for record in read_records(folder / "out") if record.ok]

    return run


def fast(users: int) -> Way:
    def run(url: str, folder: Path, requests: int) -> list[float]:
        (folder / "fast.py").write_text(FAST.format(url=url, requests=requests))
        locust(folder, folder / "fast.py", "-u", str(users), "-r", str(users), "--only-summary")
        return []

    return run


def locust(folder: Path, file: Path, *options: str) -> None:
    command = [str(Path(sys.executable).with_name("locust")), "-f", str(file), "--headless", *options]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(listener,), daemon=True)
    server.start()
    ways: dict[str, Way] = {"plain socket, 1 user": ask_plainly}
    for users in (1, 8):
        ways |= {f"stream, {users} users": stream(users), f"FastHttpUser, {users} users": fast(users)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "image.jpg").write_bytes(IMAGE)
        for title, way in ways.items():
            marks = [cpu_s()]
            way(url, folder, 10)  # what starting costs is taken off
            marks.append(cpu_s())
            times = way(url, folder, REQUESTS)
            marks.append(cpu_s())
            per_request_s = (marks[2] - 2 * marks[1] + marks[0]) / REQUESTS
            told = f"p50 {median(times) * 1e3:.3f} ms, " if times else ""
            print(f"{title:22} {told}{per_request_s * 1e3:.3f} ms of CPU a request", flush=True)
    server.terminate()


if __name__ == "__main__":
    main()
