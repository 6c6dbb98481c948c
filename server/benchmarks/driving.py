"""What the benchmarks of the server share: servers as child processes, wrk, and processor time from /proc."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from dlclient.serving_result import Round

COMMANDS = Path(sys.executable).parent
HERE = Path(__file__).parent
START_S = 120
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_COUNTING = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s, ns; } moment; int clock_gettime(int, moment *);")
local moment, threads = ffi.new("moment"), {}
local function now()
  ffi.C.clock_gettime(1, moment)  -- CLOCK_MONOTONIC
  return tonumber(moment.s) + tonumber(moment.ns) * 1e-9
end
function setup(thread) table.insert(threads, thread) end
function init(args)
  from = now() + (tonumber(args[1]) or 0)
  till = from + (tonumber(args[2]) or math.huge)
  counted = 0
end
function response()
  local at = now()
  if at > from and at <= till then counted = counted + 1 end
end
function done()
  for _, thread in ipairs(threads) do io.write("counted: ", thread:get("counted"), "\\n") end
end
"""
_PATHS = """
local made = {}
function init()
  for place, path in ipairs({PATHS}) do made[place] = wrk.format(nil, path) end
end
function request() return made[math.random(#made)] end
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    url: str
    process: "subprocess.Popen[bytes]"

    def parts(self) -> dict[str, list[int]]:
        """Its processes by what they are for; of other servers than ours, `all` alone."""
        found: dict[str, list[int]] = {"all": [self.process.pid]}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(child.cmdline())
                part = "front" if "dlserve.front" in line else "workers" if "dlserve.worker" in line else ""
                found["all"].append(child.pid)
                if part:
                    found.setdefault(part, []).append(child.pid)
        return found


def end_all_when_told() -> None:
    """Let SIGTERM unwind the program, so that the servers that it has started end with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def check_tools() -> str:
    """What is missing, and the cure; "" if nothing is."""
    return "" if shutil.which("wrk") else "wrk is missing; install Debian's package: apt-get install wrk"


def _cpu_s(processes: Sequence[int]) -> float:
    """Processor time that they have used since they began; of one that is gone none is known."""
    ticks = 0
    for process in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * _TICK_S


def load(server: Server, path: str, clients: int, seconds: int, script: Path, *, skipped_s: int = 0) -> Round:
    """Ask a server by wrk for whole seconds. Raises RuntimeError if any answer was an error.

    The rate is of all answers in that time; or, where `skipped_s` is given and the script counts, of those after so many
    seconds more at the beginning. Where a batch takes a good part of a round that matters: nothing is under way when a load
    begins, and what is under way when it ends is never counted.
    """
    url = server.url + path
    parts = server.parts()
    before = {part: _cpu_s(processes) for part, processes in parts.items()}
    lasting_s = skipped_s + seconds
    command = ["wrk", "-t1", f"-c{clients}", f"-d{lasting_s}s", "--timeout", "20s", "--latency", "-s", str(script), url]
    if skipped_s:
        command += ["--", str(skipped_s), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=lasting_s + START_S)  # noqa: S603
    shown = done.stdout + done.stderr
    if done.returncode or "Non-2xx" in shown or "Socket errors" in shown:
        raise RuntimeError(f"{url} answered with errors:\n{shown[-600:]}")
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)\b", shown)
    total = re.search(r"(\d+) requests in", shown)
    rate = re.search(r"counted: (\d+)" if skipped_s else r"Requests/sec:\s+([\d.]+)", shown)
    if latency is None or total is None or rate is None or not int(total[1]):
        raise RuntimeError(f"{url} answered nothing:\n{shown[-600:]}")
    used = {part: (_cpu_s(processes) - before[part]) / int(total[1]) for part, processes in parts.items()}
    rate_per_s = int(rate[1]) / seconds if skipped_s else float(rate[1])
    return Round(p50_s=float(latency[1]) * _UNITS[latency[2]], rate_per_s=rate_per_s, cpu_s=used)


def write_script(
    folder: Path,
    name: str,
    body: bytes,
    headers: Mapping[str, str],
    paths: Sequence[str] = (),
    *,
    counts: bool = False,
) -> Path:
    """The Lua that makes wrk post `body` with these headers, to one of `paths` by chance each time where there are any.

    `counts`: answers one by one, for `load` with `skipped_s`; it costs wrk too much where they are many.
    """
    file = folder / f"{name}.body"
    file.write_bytes(body)
    script = folder / f"{name}.lua"
    set_headers = "".join(f'wrk.headers["{key}"] = "{value}"\n' for key, value in headers.items())
    script.write_text(
        f'local file = io.open("{file}", "rb")\nwrk.method, wrk.body = "POST", file:read("*a")\n{set_headers}'
        + (_PATHS.replace("PATHS", ", ".join(f'"{path}"' for path in paths)) if paths else "")
        + (_COUNTING if counts else ""),
        encoding="utf-8",
    )
    return script


@contextlib.contextmanager
def running(
    command: Sequence[str], ready: str, *, cwd: Path = HERE, environment: Mapping[str, str] | None = None, log: Path
) -> Iterator[Server]:
    """A server process in a group of its own, ended on leaving; its URL is what `ready` matched first in what it printed.

    Raises RuntimeError with the end of that if it does not come to it in `START_S`.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  our own commands
            list(command), stdout=file, stderr=file, cwd=cwd, env=environment, start_new_session=True
        )
    try:
        yield Server(_wait(process, ready, log), process)
    finally:
        _end(process)


def _wait(process: "subprocess.Popen[bytes]", ready: str, log: Path) -> str:
    for _ in range(START_S * 10):
        if found := re.search(ready, log.read_text(encoding="utf-8", errors="replace")):
            return found[1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
    tail = log.read_text(encoding="utf-8", errors="replace")[-600:]
    raise RuntimeError(f"{process.args[0]!s} did not start: {tail}")  # type: ignore[index]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and all that it has started, kindly first."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    for child in family:  # psutil knows them by when they began, so none of another's is met
        with contextlib.suppress(psutil.Error):
            child.kill()
    process.kill()
    process.wait(20)


def build(folder: Path, names: Sequence[str]) -> Path:
    """A repository of these networks below `folder`."""
    repository = folder / "models"
    command = [str(COMMANDS / "dlmodels"), "build", *names, "--repository", str(repository)]
    subprocess.run(command, check=True, capture_output=True, timeout=START_S)  # noqa: S603
    return repository


def uvicorn(app: str, log: Path) -> contextlib.AbstractContextManager[Server]:
    """One of the bare apps, on a free port."""
    command = [sys.executable, "-m", "uvicorn", app, "--port", "0", "--no-access-log"]
    return running([*command, "--loop", "uvloop", "--http", "httptools"], r"running on (http://[\d.:]+)", log=log)


def dlserve(log: Path, *options: str) -> contextlib.AbstractContextManager[Server]:
    """A dlserve with two workers, on a free port."""
    command = [str(COMMANDS / "dlserve"), "--port", "0", "--workers", "2", "--devices", "cpu"]
    return running([*command, *options], r"ready: (http://\S+)", log=log)
