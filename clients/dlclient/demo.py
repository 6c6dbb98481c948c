"""`make demo`: build models, serve them, stream warm and then cold at them, stop, and say what came out."""

import argparse
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

MODELS = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18")
REPOSITORY = Path("models/repository")
RESULTS = Path("results/demo")
START_S = 180
STOP_S = 90
INTERRUPTED = 130
_COMMANDS = Path(sys.executable).parent


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: stop as Ctrl-C does, but only we got it, not the commands that we run."""


class DemoError(Exception):
    """A step failed; the message says which and why."""


def say(text: str) -> None:
    """A line of progress."""
    print(f"\n== {text}", flush=True)


def build() -> None:
    """Build the models that are not there yet."""
    missing = [name for name in MODELS if not (REPOSITORY / name / "model.toml").exists()]
    if not missing:
        say(f"models: {', '.join(MODELS)} are in {REPOSITORY} already")
        return
    say(f"building {', '.join(missing)} in {REPOSITORY} (seeded random weights)")
    run([str(_COMMANDS / "dlmodels"), "build", *missing, "--repository", str(REPOSITORY)], "building the models failed")


def run(command: list[str], failure: str) -> None:
    """Run a command to its end, its output on the terminal. Raises DemoError."""
    with subprocess.Popen(command) as process:  # noqa: S603  our own commands
        try:
            code = process.wait()
        except BaseException as exc:
            _stop(process, told=type(exc) is KeyboardInterrupt)
            raise
    if code != 0:
        raise DemoError(f"{failure} (exit code {code}); see its output above")


def _stop(process: subprocess.Popen[bytes], *, told: bool) -> None:
    """End a command in order. `told`: by Ctrl-C, which the terminal sends to all; a second one would cut its end short."""
    if told:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()


def _terminated(_number: int, _frame: object) -> None:
    raise TerminatedError


def check_port(port: int) -> None:
    """Raises DemoError if something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise DemoError(
                f"port {port} is taken by another program: stop it, or choose another with: make demo PORT={port + 1}"
            ) from exc


@contextlib.contextmanager
def serving(port: int) -> Iterator[None]:
    """A dlserve with two workers; stopped in order at the end. Raises DemoError if it does not start or stop."""
    say(f"starting dlserve with two workers on port {port}")
    command = [str(_COMMANDS / "dlserve"), "--models-dir", str(REPOSITORY), "--workers", "2", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)  # noqa: S603  our own command
    lines: queue.Queue[str | None] = queue.Queue()

    def echo() -> None:
        assert process.stderr is not None
        with process.stderr as said:
            for line in said:
                print(f"   {line}", end="", flush=True)
                lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=echo, daemon=True)
    reader.start()
    try:
        while True:
            try:
                line = lines.get(timeout=START_S)
            except queue.Empty as exc:
                raise DemoError(f"dlserve was not ready after {START_S} s; see its output above") from exc
            if line is None:
                raise DemoError("dlserve did not start; see its output above")
            if " ready: " in line:
                break
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        reader.join()
    if code != 0:
        raise DemoError(f"dlserve did not stop in order (exit code {code})")


def stream(port: int, requests: int) -> None:
    """Both phases of the stream. Raises DemoError unless both completed and are valid."""
    say(f"streaming {requests} requests warm, then {requests} with a cold reload each")
    command = [
        str(_COMMANDS / "locust"), "-f", "loadgen/stream.py", "--headless", "--users", "2", "--spawn-rate", "2",
        "--host", f"http://127.0.0.1:{port}", "--requests", str(requests), "--phases", "warm,disk",
        "--results", str(RESULTS), "--overwrite",
    ]  # fmt: skip
    run(command, "the stream is not valid, or did not complete")


def main() -> int:
    """Run the demo; the exit code."""
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument("--port", type=int, default=8080)
    options.add_argument("--requests", type=int, default=800, help="in each phase (%(default)s: enough for a p99)")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        check_port(given.port)
        build()
        with serving(given.port):
            stream(given.port, given.requests)
    except DemoError as exc:
        print(f"\nmake demo: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake demo: interrupted; everything it started has been stopped", file=sys.stderr)
        return INTERRUPTED
    say(f"done; everything is in {RESULTS}/: open {os.path.relpath(RESULTS / 'report.html')} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
