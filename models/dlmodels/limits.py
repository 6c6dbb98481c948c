"""What this machine's memory, disk and GPU can move: the bandwidths that a cold reload is held against.

`dlmodels limits` measures them and writes them as JSON (schema `dlserve-limits/1`), which the stream keeps beside its result.
"""

import argparse
import mmap
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pynvml

from dlmodels import page_cache
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, MeasurementError

SCHEMA = "dlserve-limits/1"
MIB = 1 << 20
DEFAULT_SIZE_MIB = 256
"""More than the caches of most CPUs hold, and about what a large network's weights are."""
LEAST_REPETITIONS, MOST_REPETITIONS = 3, 15
ENOUGH_S = 2.0
"""A measurement that has its fewest repetitions ends after this time."""
TOO_LONG_S = 20.0
"""It ends after this time in any case."""
_BLOCK_BYTES = 4 * MIB
_WARM_FRACTION, _COLD_FRACTION = 0.99, 0.01


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per second of one path, over repetitions; None, and a reason, where there is nothing to measure."""

    bytes_per_s: float | None = None
    """Median."""
    lowest: float | None = None
    highest: float | None = None
    repetitions: int = 0
    reason: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    host: str
    kernel: str
    cpu_model: str
    cpu_cores: int
    memory_bytes: int
    gpu: str
    """Name of GPU 0; "" where there is none."""
    file_dir: str
    """The folder whose disk was read."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """limits.json. One thread moves `size_bytes` at a time; a copy of n bytes counts as n."""

    schema: str
    measured: str
    """ISO 8601, UTC."""
    version: str
    """Of dlserve."""
    machine: Machine
    size_bytes: int
    file_cached: Bandwidth
    """Reading a file that the page cache holds, into memory that is already there."""
    file_dropped: Bandwidth
    """The same after the page cache was made to forget it: from the disk (or the host's cache of a virtual disk)."""
    memory_copy: Bandwidth
    pageable_to_device: Bandwidth
    """From ordinary memory to GPU 0."""
    pinned_to_device: Bandwidth


def measure(size_bytes: int, file_dir: Path) -> Limits:
    """All bandwidths of this machine; takes up to about 10 s, longer where the disk is slow. Raises MeasurementError.

    A file of `size_bytes` is made in `file_dir` and deleted again; twice as much memory is used.
    """
    _check_room(size_bytes, file_dir)
    cached, dropped = _file(size_bytes, file_dir)
    gpu, pageable, pinned = _device(size_bytes)
    return Limits(
        schema=SCHEMA,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("dlserve"),
        machine=Machine(
            host=platform.node(),
            kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
            cpu_model=_cpu_model(),
            cpu_cores=len(os.sched_getaffinity(0)),
            memory_bytes=host_memory().total_bytes,
            gpu=gpu,
            file_dir=str(file_dir.absolute()),
        ),
        size_bytes=size_bytes,
        file_cached=cached,
        file_dropped=dropped,
        memory_copy=_memory(size_bytes),
        pageable_to_device=pageable,
        pinned_to_device=pinned,
    )


def repeat(once: Callable[[], float], size_bytes: int, clock: Callable[[], float] = perf_counter) -> Bandwidth:
    """The bandwidth of something that moves `size_bytes` and returns the seconds, repeated within the module's bounds."""
    times: list[float] = []
    began = clock()
    while len(times) < MOST_REPETITIONS:
        times.append(once())
        spent = clock() - began
        if spent > TOO_LONG_S or (spent > ENOUGH_S and len(times) >= LEAST_REPETITIONS):
            break
    return Bandwidth(
        bytes_per_s=size_bytes / statistics.median(times),
        lowest=size_bytes / max(times),
        highest=size_bytes / min(times),
        repetitions=len(times),
    )


def _check_room(size_bytes: int, file_dir: Path) -> None:
    if not file_dir.is_dir():
        raise MeasurementError(
            f"--file-dir {file_dir}: there is no such folder; name one on the disk that holds models"
        )
    free = shutil.disk_usage(file_dir).free
    if free < 2 * size_bytes:
        raise MeasurementError(
            f"{file_dir} has {free // MIB} MiB free, twice --size is wanted: free space, or choose a smaller --size"
        )
    memory = host_memory().free_bytes
    if memory < 4 * size_bytes:
        raise MeasurementError(
            f"this machine has {memory // MIB} MiB of memory free, four times --size is wanted: choose a smaller --size"
        )


def _file(size_bytes: int, file_dir: Path) -> tuple[Bandwidth, Bandwidth]:
    """Cached and dropped."""
    try:
        with tempfile.TemporaryFile(dir=file_dir) as file, mmap.mmap(-1, size_bytes) as buffer:
            _fill(file.fileno(), buffer, size_bytes)
            return _cached(file.fileno(), buffer), _dropped(file.fileno(), buffer)
    except OSError as exc:
        raise MeasurementError(
            f"no file can be measured in {file_dir} ({exc.strerror}): name another folder with --file-dir"
        ) from exc


def _fill(descriptor: int, buffer: mmap.mmap, size_bytes: int) -> None:
    """Bytes that no file system compresses or leaves out, on the disk; the buffer's pages are there afterwards."""
    block = os.urandom(_BLOCK_BYTES)
    for start in range(0, size_bytes, _BLOCK_BYTES):
        buffer[start : start + _BLOCK_BYTES] = block[: size_bytes - start]
    view = memoryview(buffer)
    try:
        done = 0
        while done < size_bytes:
            with view[done : done + _BLOCK_BYTES] as part:
                done += os.pwrite(descriptor, part, done)
    finally:
        view.release()
    os.fsync(descriptor)


def read_into(descriptor: int, buffer: mmap.mmap) -> float:
    """Seconds to read the file's first bytes, as many as the buffer has, into it."""
    view = memoryview(buffer)
    began = perf_counter()
    try:
        done = 0
        while done < len(view):
            with view[done:] as rest:
                read = os.preadv(descriptor, [rest], done)
            if read == 0:
                raise OSError(None, "the file is shorter than it should be")
            done += read
        return perf_counter() - began
    finally:
        view.release()


def _cached(descriptor: int, buffer: mmap.mmap) -> Bandwidth:
    read_into(descriptor, buffer)
    try:
        held = page_cache.resident_fraction(descriptor, len(buffer))
    except OSError:
        held = 1.0  # reading it just now is all that can be done
    if held < _WARM_FRACTION:
        return Bandwidth(reason=f"the page cache holds only {held:.0%} of the file: measure with a smaller --size")
    return repeat(lambda: read_into(descriptor, buffer), len(buffer))


def _dropped(descriptor: int, buffer: mmap.mmap) -> Bandwidth:
    def once() -> float:
        page_cache.drop(descriptor)
        held = page_cache.resident_fraction(descriptor, len(buffer))
        if held > _COLD_FRACTION:
            raise MeasurementError(f"the system keeps {held:.0%} of the file in memory though it was asked to drop it")
        return read_into(descriptor, buffer)

    try:
        return repeat(once, len(buffer))
    except MeasurementError as exc:
        return Bandwidth(reason=f"{exc} (a file system in memory does that): try another --file-dir")
    except OSError as exc:
        return Bandwidth(reason=f"whether the page cache dropped the file cannot be told ({exc.strerror})")


def _memory(size_bytes: int) -> Bandwidth:
    with mmap.mmap(-1, size_bytes) as source, mmap.mmap(-1, size_bytes) as target:
        block = os.urandom(_BLOCK_BYTES)
        for start in range(0, size_bytes, _BLOCK_BYTES):
            source[start : start + _BLOCK_BYTES] = block[: size_bytes - start]
        target[:] = bytes(size_bytes)  # its pages exist before the clock starts
        with memoryview(source) as read, memoryview(target) as written:

            def once() -> float:
                began = perf_counter()
                written[:] = read
                return perf_counter() - began

            return repeat(once, size_bytes)


def _device(size_bytes: int) -> tuple[str, Bandwidth, Bandwidth]:
    """The GPU's name, pageable and pinned."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as exc:
        none = Bandwidth(reason=f"no NVIDIA GPU ({exc})")
        return "", none, none
    pynvml.nvmlShutdown()
    try:
        from dlmodels.engines.torch_transfer import device_copies  # noqa: PLC0415  torch, only where there is a GPU

        name, copies = device_copies(0, size_bytes)
    except (ImportError, EngineUnavailableError) as exc:
        none = Bandwidth(reason=str(exc))
        return "", none, none
    return name, repeat(copies["pageable"], size_bytes), repeat(copies["pinned"], size_bytes)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in named if key.strip() == "model name"), platform.machine())


_NAMES = {
    "file_cached": "file read, page cache warm",
    "file_dropped": "file read, page cache dropped",
    "memory_copy": "memory copy",
    "pageable_to_device": "pageable memory to GPU",
    "pinned_to_device": "pinned memory to GPU",
}


def describe(limits: Limits) -> str:
    """The figures as lines of text."""
    machine = limits.machine
    lines = [f"{machine.cpu_model}, {machine.cpu_cores} cores{f', {machine.gpu}' if machine.gpu else ''}"]
    for field, name in _NAMES.items():
        bandwidth: Bandwidth = getattr(limits, field)
        if bandwidth.bytes_per_s is None or bandwidth.lowest is None or bandwidth.highest is None:
            lines.append(f"{name:<30} {'n/a':>8}  ({bandwidth.reason})")
            continue
        spread = f"{bandwidth.lowest / 1e9:.2f} to {bandwidth.highest / 1e9:.2f}"
        times = f"{bandwidth.repetitions} times {limits.size_bytes / 1e6:.0f} MB"
        lines.append(f"{name:<30} {bandwidth.bytes_per_s / 1e9:>8.2f} GB/s  ({spread}; {times})")
    return "\n".join(lines)


def add_parser(commands: Any) -> None:
    """The subcommand `limits` of `dlmodels`; `commands` is what argparse's add_subparsers returned."""
    parser = commands.add_parser(
        "limits",
        help="measure what this machine's memory, disk and GPU can move",
        description="Measure the bandwidths that a cold reload is held against: file read with and without the page cache, "
        "memory copy, and, with an NVIDIA GPU, pageable and pinned memory to it. Takes about 10 s.",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write them there as JSON: the stream's --limits")
    parser.add_argument("--json", action="store_true", help="print JSON, bytes per second")
    parser.add_argument(
        "--size",
        type=_size,
        default=DEFAULT_SIZE_MIB,
        metavar="MIB",
        help=f"how much is moved at a time (default: {DEFAULT_SIZE_MIB})",
    )
    parser.add_argument(
        "--file-dir",
        type=Path,
        metavar="DIR",
        help="read from this folder's disk (default: models/repository, or here)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """What the subcommand does. Raises MeasurementError."""
    repository = Path("models/repository")
    file_dir = options.file_dir or (repository if repository.is_dir() else Path())
    if options.output is not None and not options.output.absolute().parent.is_dir():
        raise MeasurementError(f"--output {options.output}: there is no folder {options.output.parent}; make it first")
    limits = measure(options.size * MIB, file_dir)
    content = msgspec.json.format(msgspec.json.encode(limits), indent=2) + b"\n"
    if options.output is not None:
        try:
            options.output.write_bytes(content)
        except OSError as exc:
            raise MeasurementError(f"--output {options.output} cannot be written: {exc.strerror}") from exc
    print(content.decode() if options.json else describe(limits), end="" if options.json else "\n")


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB between 1 and {1 << 16}")
    return int(text)
