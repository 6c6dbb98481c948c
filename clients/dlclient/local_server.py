"""A dlserve of one's own on this machine: the models built, the limits measured, the server started and stopped in order.

What `make demo` and the stream's `--preset` are made of. Everything is done by the commands that people use, `dlmodels` and
`dlserve`. As a program, `python -m dlclient.local_server NAME...`, it does all that, says where the server listens, and stops
it when its standard input ends: so whatever ends the program that started it, also a kill -9, leaves nothing running.
"""

import argparse
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from dlclient.environment import environment
from dlclient.errors import LocalServerError

REPOSITORY = Path("models/repository")
START_S = 180
STOP_S = 90
CPU_WORKERS = 2
COMMANDS = Path(sys.executable).parent
LISTENING = "listening at "
"""What the line begins with that tells the address."""
_INTERRUPTED = 130
_READY = re.compile(r" ready: (http://\S+)")


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: stop as Ctrl-C does, but only we got it, not the commands that we run."""


def terminated(_number: int, _frame: object) -> None:
    """A handler of SIGTERM: the first one ends us in order, and no other may disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise TerminatedError


class HeldSignals:
    """SIGINT and SIGTERM, held back from construction to `release`, so that no process is started and then lost track of.

    Only of use in the main thread, where signals arrive; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self._got: list[int] = []
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, lambda number, _: self._got.append(number))

    def release(self) -> None:
        """Let them through again, first the one that came meanwhile."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._got:
            signal.raise_signal(self._got[0])


class _Network(msgspec.Struct):
    name: str


def preset_networks(preset: str) -> tuple[str, ...]:
    """The networks of a preset of `dlmodels list --preset`. Raises LocalServerError, also where there is none of that name."""
    command = [str(COMMANDS / "dlmodels"), "list", "--preset", preset, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  our own command
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"`{' '.join(command[1:])}` failed"]
        raise LocalServerError(f"--preset {preset}: {said[-1].removeprefix('dlmodels: ')}")
    try:
        networks = msgspec.json.decode(done.stdout, type=tuple[_Network, ...])
    except msgspec.DecodeError as exc:
        raise LocalServerError(
            f"--preset {preset}: `dlmodels list` answered with something else ({exc}); install dlserve again"
        ) from exc
    return tuple(network.name for network in networks)


def build(names: Sequence[str], repository: Path, say: Callable[[str], None], output: BinaryIO | None = None) -> None:
    """Build the networks that are not in the repository yet. `output`: a file that gets what the command says.

    Raises LocalServerError.
    """
    missing = [name for name in names if not (repository / name / "model.toml").exists()]
    if not missing:
        say(f"models: {', '.join(names)} are in {repository} already")
        return
    say(f"building {', '.join(missing)} in {repository} (seeded random weights)")
    command = [str(COMMANDS / "dlmodels"), "build", *missing, "--repository", str(repository)]
    run(command, "building the models failed", output=output)


def measure_limits(path: Path, file_dir: Path, say: Callable[[str], None]) -> None:
    """Have this machine's bandwidths measured and written to `path`. Raises LocalServerError."""
    say("measuring what this machine can move (dlmodels limits)")
    command = [str(COMMANDS / "dlmodels"), "limits", "--output", str(path), "--file-dir", str(file_dir)]
    run(command, "measuring the machine's limits failed")


def default_workers() -> int:
    """How many workers a server of one's own gets: one per GPU, or CPU_WORKERS where there is none."""
    return len(environment().gpus) or CPU_WORKERS


def run(command: Sequence[str], failure: str, *, terminal: bool = False, output: BinaryIO | None = None) -> None:
    """Run a command to its end. Raises LocalServerError; whatever else is raised meanwhile ends the command first.

    `terminal`: it reads the terminal, so it must stay in the foreground, where Ctrl-C reaches it by itself. `output`: a file that
    gets what it says, in place of our own output.
    """
    stdin, group = (None, None) if terminal else (subprocess.DEVNULL, 0)
    held = HeldSignals()
    with subprocess.Popen(command, stdin=stdin, stdout=output, stderr=output, process_group=group) as process:  # noqa: S603  our own commands
        try:
            held.release()
            code = process.wait()
        except BaseException as exc:
            stop(process, told=terminal and type(exc) is KeyboardInterrupt)
            raise
    if code != 0:
        raise LocalServerError(f"{failure} (exit code {code}); see its output{' above' if output is None else ''}")


def stop(process: "subprocess.Popen[bytes]", *, told: bool) -> None:
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


@contextlib.contextmanager
def serving(
    repository: Path,
    *,
    workers: int,
    port: int = 0,
    options: Sequence[str] = (),
    say: Callable[[str], None],
    echo: Callable[[str], None],
) -> Iterator[str]:
    """A dlserve on loopback, ready, as its address; stopped in order at the end. `port` 0: any that is free.

    `options`: others of its command line. `echo` gets each line of its log. Raises LocalServerError if it does not start, or does not stop in order.
    """
    say(f"starting dlserve with {workers} workers{f' on port {port}' if port else ''}")
    command = [str(COMMANDS / "dlserve"), "--models-dir", str(repository), "--workers", str(workers), *options]
    held = HeldSignals()
    process = subprocess.Popen(  # noqa: S603  our own command
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for us: a server that stopped first would take the last answers with it
    )
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines, echo), daemon=True)
    reader.start()
    try:
        held.release()
        yield _address(lines)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        reader.join()
    if code != 0:
        raise LocalServerError(f"dlserve did not stop in order (exit code {code})")


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]", echo: Callable[[str], None]) -> None:
    """Pass the log on, up to the line that says ready also to whoever waits for that; None: there is no more."""
    assert process.stderr is not None
    ready = False
    with process.stderr as said:
        for line in said:
            echo(line.rstrip("\n"))
            if not ready:
                lines.put(line)
            ready = ready or _READY.search(line) is not None
    lines.put(None)


def _address(lines: "queue.Queue[str | None]") -> str:
    """The address that a starting dlserve says it is ready at. Raises LocalServerError."""
    while True:
        try:
            line = lines.get(timeout=START_S)
        except queue.Empty as exc:
            raise LocalServerError(f"dlserve was not ready after {START_S} s; see its output above") from exc
        if line is None:
            raise LocalServerError("dlserve did not start; see its output above")
        if found := _READY.search(line):
            return found[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, serve, until standard input ends or SIGTERM comes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dlclient.local_server", description=__doc__)
    parser.add_argument("networks", metavar="NAME", nargs="+")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, metavar="DIR")
    parser.add_argument("--workers", type=int, default=CPU_WORKERS, metavar="N")
    parser.add_argument("--limits", type=Path, metavar="FILE", help="measure the machine's limits into this file")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, terminated)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        build(options.networks, options.repository, _say)
        if options.limits is not None:
            measure_limits(options.limits, options.repository, _say)
        with serving(options.repository, workers=options.workers, say=_say, echo=_say) as url:
            _say(f"{LISTENING}{url}")
            with contextlib.suppress(TerminatedError):
                while True:
                    signal.pause()
    except LocalServerError as exc:
        _say(str(exc))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever listened is gone; what is left to do is to stop
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
