"""limits.json: the bandwidths of a machine as `dlmodels limits` measured them, kept in a result folder by the stream.

Bytes per second as floats. Like every reader of results it ignores fields that it does not know, and refuses a schema that
it does not know.
"""

import math
from pathlib import Path

import msgspec

from dlclient.errors import ResultError

SCHEMA = "dlserve-limits/1"
LIMITS_FILE = "limits.json"


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per second of one path over repetitions; `bytes_per_s` (their median) None: not measured, see `reason`."""

    bytes_per_s: float | None
    lowest: float | None = None
    highest: float | None = None
    repetitions: int = 0
    reason: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured. `gpu`: "" where there is none."""

    host: str
    cpu_model: str
    cpu_cores: int
    gpu: str = ""
    file_dir: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """limits.json."""

    schema: str
    measured: str
    """ISO 8601, UTC."""
    machine: Machine
    size_bytes: int
    """How much was moved at a time, by one thread."""
    file_cached: Bandwidth
    """Reading a file that the page cache holds."""
    file_dropped: Bandwidth
    """Reading a file that the page cache does not hold."""
    memory_copy: Bandwidth
    pageable_to_device: Bandwidth
    pinned_to_device: Bandwidth


def read_limits(path: Path) -> Limits:
    """A file that `dlmodels limits --output` wrote. Raises ResultError naming it and what to do."""
    try:
        return parse_limits(path.read_bytes(), path)
    except OSError as exc:
        raise ResultError(f"cannot read {path}: {exc.strerror}; make it with: dlmodels limits --output {path}") from exc


def parse_limits(content: bytes, path: Path) -> Limits:
    """The content of such a file. Raises ResultError; `path` is for its message."""
    again = f"measure again with: dlmodels limits --output {path}"
    try:
        schema = msgspec.json.decode(content, type=_Schema).schema
        if schema != SCHEMA:
            raise ResultError(f"{path} has schema {schema!r}, this version reads {SCHEMA!r}; {again}")
        limits = msgspec.json.decode(content, type=Limits)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} holds no limits of a machine: {exc}; {again}") from exc
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        if isinstance(value, Bandwidth) and value.bytes_per_s is not None and not _possible(value.bytes_per_s):
            raise ResultError(f"{path}: {name} of {value.bytes_per_s:g} bytes/s is no bandwidth; {again}")
    return limits


def kept_limits(folder: Path) -> Limits | None:
    """limits.json of a result folder; None where the run was given none. Raises ResultError."""
    path = folder / LIMITS_FILE
    return read_limits(path) if path.exists() else None


def _possible(bytes_per_s: float) -> bool:
    return math.isfinite(bytes_per_s) and 0 < bytes_per_s < 1e15


class _Schema(msgspec.Struct):
    schema: str = ""
