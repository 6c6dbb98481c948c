"""What else happened while a stream ran: samples.jsonl of its result folder, one Sample a line, on one clock.

`t_s` is `time.perf_counter`, which is the same for all processes of a Linux machine (CLOCK_MONOTONIC, seconds since the
machine started, without the time that it was suspended). run.json says on the same clock when each phase began. A sample
is about the `interval_s` before it: what is a count, a share or a mean is that of this interval, the rest is as it was
at `t_s`. A field that is None (or a name that is not in a dict) could not be found out.
"""

from pathlib import Path

import msgspec

from dlclient.errors import ResultError

SAMPLES_FILE = "samples.jsonl"


class ClientSample(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the load generator, and the machine that it runs on."""

    cpu_cores: float
    """CPU time of the process (user and system, all its threads) per second: 1 is one core, always busy."""
    resident_bytes: int
    loop_delay_p50_s: float | None
    """How late a timer of the event loop woke, over some 100 wakings; up to 1 ms of it is the resolution of epoll."""
    loop_delay_p99_s: float | None
    loop_delay_max_s: float | None
    switches_voluntary: int
    """Times the process gave its core away because it had to wait."""
    switches_involuntary: int
    """Times its core was taken from it."""
    clock_offset_s: float
    """CLOCK_REALTIME less CLOCK_MONOTONIC: it jumps when somebody sets the clock or the machine was suspended."""
    system_busy: float | None
    """Share of the machine's CPU time that was not idle."""
    system_steal: float | None
    """Share of it that the hypervisor gave to other machines; always 0 where there is none, or where it does not tell."""


class GpuSample(msgspec.Struct, frozen=True, kw_only=True):
    """A graphics processor of the server, as its server tells it."""

    utilization: float | None = None
    """Share of time in which a kernel ran, 0 to 1."""
    memory_bytes: float | None = None
    power_w: float | None = None


class ServerSample(msgspec.Struct, frozen=True, kw_only=True):
    """The server's own metrics, by whatever names it has for them (see dlload.monitoring.series)."""

    scrape_s: float
    """From asking for the metrics to having them."""
    in_flight: float | None = None
    """Requests that the server has accepted and not answered: waiting or running."""
    in_flight_by_worker: dict[str, float] = {}
    batch_size: float | None = None
    """Mean over the forwards (or, for dlserve, over the calls that they answered) of the interval."""
    requests_by_code: dict[str, float] = {}
    """Answers in the interval by HTTP status, or by "ok" and "failed" where the server tells no more."""
    requests_by_temperature: dict[str, float] = {}
    """Answers in the interval by where they found the weights."""
    loads: float | None = None
    """Times in the interval that weights were brought onto a device."""
    busy_by_worker: dict[str, float] = {}
    """Share of the interval in which the worker loaded or ran models."""
    cpu_cores: float | None = None
    """CPU time per second of the process that serves the metrics (dlserve: the front end)."""
    gpus: dict[str, GpuSample] = {}
    process_started: float | None = None
    """Seconds since 1970, by the server's clock."""
    restarts_by_worker: dict[str, float] = {}
    """Since the server started."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One line: of the client or of the server, whichever is not None."""

    t_s: float
    interval_s: float
    source: str
    """Which client process (pid-N), or the address of the server's metrics."""
    client: ClientSample | None = None
    server: ServerSample | None = None


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A line about the sampling itself: why there are no samples of the server, or none for a while."""

    t_s: float
    source: str
    note: str


class _Either(msgspec.Struct, frozen=True, kw_only=True):
    note: str | None = None


def encode_line(line: Sample | Note) -> bytes:
    """One line of samples.jsonl."""
    return msgspec.json.encode(line) + b"\n"


def read_samples(folder: Path) -> tuple[list[Sample], list[Note]]:
    """samples.jsonl of a result folder, in file order; nothing where a run has none (one of an earlier version).

    A last line that an interrupt tore is left out. Raises ResultError naming the file, the line and what to do.
    """
    path = folder / SAMPLES_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as exc:
        raise ResultError(f"cannot read {path}: {exc.strerror}; see its permissions, or move it away") from exc
    torn = lines.pop()  # "" where the file ends as it should
    samples: list[Sample] = []
    notes: list[Note] = []
    for number, line in enumerate(lines, start=1):
        try:
            _decode(line, samples, notes)
        except msgspec.DecodeError as exc:
            raise ResultError(f"{path}:{number}: {exc}; restore the file, or move it away to do without it") from exc
    if torn:
        try:
            _decode(torn, samples, notes)
        except msgspec.DecodeError:
            return samples, notes  # the run was killed while it wrote this line
    return samples, notes


def _decode(line: bytes, samples: list[Sample], notes: list[Note]) -> None:
    if msgspec.json.decode(line, type=_Either).note is None:
        samples.append(msgspec.json.decode(line, type=Sample))
    else:
        notes.append(msgspec.json.decode(line, type=Note))
