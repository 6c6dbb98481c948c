"""`make demo`: build models, measure the machine, serve, stream warm and then cold at them, stop, and say what came out."""

import argparse
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from dlclient.errors import LocalServerError
from dlclient.limits import LIMITS_FILE
from dlclient.local_server import COMMANDS, CPU_WORKERS, REPOSITORY, build, measure_limits, run, serving, terminated

MODELS = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18")
RESULTS = Path("results/demo")
INTERRUPTED = 130


def say(text: str) -> None:
    """A line of progress."""
    print(f"\n== {text}", flush=True)


def echo(line: str) -> None:
    """A line of the server's log."""
    print(f"   {line}", flush=True)


def check_port(port: int) -> None:
    """Raises LocalServerError if something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise LocalServerError(
                f"port {port} is taken by another program: stop it, or choose another with: make demo PORT={port + 1}"
            ) from exc


def stream(url: str, requests: int, limits: Path) -> None:
    """Both phases of the stream. Raises LocalServerError unless both completed and are valid."""
    say(f"streaming {requests} requests warm, then {requests} with a cold reload each")
    command = [
        str(COMMANDS / "locust"), "-f", "loadgen/stream.py", "--headless", "--users", "2", "--spawn-rate", "2",
        "--host", url, "--requests", str(requests), "--phases", "warm,disk",
        "--limits", str(limits), "--results", str(RESULTS), "--overwrite",
    ]  # fmt: skip
    run(command, "the stream is not valid, or did not complete", terminal=True)


def main() -> int:
    """Run the demo; the exit code."""
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument("--port", type=int, default=8080)
    options.add_argument("--requests", type=int, default=800, help="in each phase (%(default)s: enough for a p99)")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    try:
        check_port(given.port)
        build(MODELS, REPOSITORY, say)
        with tempfile.TemporaryDirectory() as folder:
            limits = Path(folder) / LIMITS_FILE
            measure_limits(limits, REPOSITORY, say)
            with serving(REPOSITORY, workers=CPU_WORKERS, port=given.port, say=say, echo=echo) as url:
                stream(url, given.requests, limits)
    except LocalServerError as exc:
        print(f"\nmake demo: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake demo: interrupted; everything it started has been stopped", file=sys.stderr)
        return INTERRUPTED
    say(f"done; everything is in {RESULTS}/: open {os.path.relpath(RESULTS / 'report.html')} in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
