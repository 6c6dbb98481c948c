"""Plans that were not drawn: those of earlier runs, and the Azure Functions trace of 2021 as a plan."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlclient.errors import ResultError
from dlclient.results import PLAN_FILE, PLAN_SCHEMA, PlanHeader, Seeds, Slot, parse_plan, read_run

from dlload.arrivals import MOST_REQUESTS
from dlload.errors import OptionError
from dlload.plan import CLOSED, Plan, picture_draws

if TYPE_CHECKING:
    import _csv

TRACE_COLUMNS = ("app", "func", "end_timestamp", "duration")
"""Of AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt (github.com/Azure/AzurePublicDataset): times in seconds."""


def read_plan_file(path: Path) -> Plan:
    """A plan.jsonl, or the one in a result folder. Raises OptionError."""
    file = path / PLAN_FILE if path.is_dir() else path
    try:
        content = file.read_bytes()
        header, slots = parse_plan(content, file)
    except OSError as exc:
        raise OptionError(
            f"--plan {path}: cannot be read: {exc.strerror}; name a plan.jsonl or a result folder"
        ) from exc
    except ResultError as exc:
        raise OptionError(f"--plan: {exc}") from exc
    _check(header, slots, file)
    return Plan(header, tuple(slots))


def users_of(path: Path) -> int | None:
    """How many users sent a closed plan, if the result that it is of says so, else 1; None for an open one, or none at all."""
    try:
        if read_plan_file(path).is_open:
            return None
    except OptionError:
        return None  # said when the run is prepared
    try:
        return max(1, read_run(path if path.is_dir() else path.parent).plan.users)
    except ResultError:
        return 1


def _check(header: PlanHeader, slots: Sequence[Slot], file: Path) -> None:
    if not slots or len(slots) != header.requests:
        raise OptionError(
            f"--plan {file}: {len(slots)} of its {header.requests} requests are there; restore the file or draw it anew"
        )
    timed = header.load != CLOSED
    last_s = 0.0
    for number, slot in enumerate(slots):
        if slot.index != number or not slot.images or len(slot.images) != header.batch_size:
            raise OptionError(f"--plan {file}:{number + 2}: not the slot {number} of its header; restore the file")
        if timed != (slot.due_s is not None) or not slot.think_s >= 0:
            raise OptionError(
                f"--plan {file}:{number + 2}: its times do not fit its load {header.load!r}; restore the file"
            )
        if slot.due_s is not None:
            if not last_s <= slot.due_s < math.inf:
                raise OptionError(f"--plan {file}:{number + 2}: due before the slot above it; restore the file")
            last_s = slot.due_s


def check_fits(plan: Plan, services: Sequence[str], images: Sequence[str]) -> None:
    """Raises OptionError where a plan asks for what is not there."""
    if missing := [name for name in plan.header.services if name not in services]:
        raise OptionError(
            f"--plan asks for {', '.join(missing)}, which the server does not have; create them, or draw another plan"
        )
    known = set(images)
    if absent := sorted({name for slot in plan.slots for name in slot.images if name not in known}):
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise OptionError(
            f"--plan sends {', '.join(absent[:3])}{more}, which --images does not hold; name the folder it was drawn from"
        )


def read_trace(
    path: Path, *, services: Sequence[str], images: Sequence[str], batch_size: int, seeds: Seeds, requests: int | None
) -> Plan:
    """The invocations of a trace as an open plan: each at its start (end_timestamp - duration), the first one at 0.

    Functions are ranked by how often they are called; the one of rank r is the service r modulo their number, so that the
    most popular function asks the first service. Images are drawn as in other plans. Raises OptionError.
    """
    if not services:
        raise OptionError("there is no service to send to; name some with --services")
    if batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: a request needs at least one image")
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise OptionError(f"--trace {path}: cannot be read: {exc.strerror}; name a file of the trace") from exc
    text = content.decode("utf-8", "replace")
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        calls = sorted(_calls(rows, path))[:requests]
    except csv.Error as exc:
        raise OptionError(f"--trace {path}:{rows.line_num}: {exc}; is it a file of the trace?") from exc
    if not calls:
        raise OptionError(f"--trace {path}: no invocation in it")
    ranked = [
        function
        for function, _ in sorted(Counter(name for _, name in calls).items(), key=lambda one: (-one[1], one[0]))
    ]
    service_of = {function: services[rank % len(services)] for rank, function in enumerate(ranked)}
    pictures = picture_draws(seeds)
    first_s = calls[0][0]
    slots = tuple(
        Slot(
            index=index,
            model=service_of[function],
            images=tuple(images[int(pictures.random() * len(images))] for _ in range(batch_size)),
            due_s=round(start_s - first_s, 6),
        )
        for index, (start_s, function) in enumerate(calls)
    )
    header = PlanHeader(
        schema=PLAN_SCHEMA,
        seeds=seeds,
        requests=len(slots),
        services=tuple(service for service in services if service in set(service_of.values())),
        mix=f"trace: {len(ranked)} functions by popularity",
        images=tuple(images),
        batch_size=batch_size,
        load=f"trace sha256 {hashlib.sha256(content).hexdigest()[:16]}",
    )
    return Plan(header, slots)


def _calls(rows: "_csv.Reader", path: Path) -> list[tuple[float, str]]:
    """(start in seconds, function) of each line. Raises OptionError and csv.Error."""
    header = [name.strip() for name in next(rows, [])]
    if missing := [name for name in TRACE_COLUMNS if name not in header]:
        raise OptionError(
            f"--trace {path}: no column {', '.join(missing)}; its first line must name {','.join(TRACE_COLUMNS)}"
        )
    app, function, end, duration = (header.index(name) for name in TRACE_COLUMNS)
    calls: list[tuple[float, str]] = []
    for row in rows:
        if not row:
            continue
        try:
            took_s = float(row[duration])
            start_s = float(row[end]) - took_s
        except (IndexError, ValueError):
            took_s = start_s = math.nan
        if not (math.isfinite(start_s) and took_s >= 0):
            raise OptionError(f"--trace {path}:{rows.line_num}: no invocation: {','.join(row)[:80]}")
        calls.append((start_s, f"{row[app]}/{row[function]}"))
        if len(calls) > MOST_REQUESTS:
            raise OptionError(f"--trace {path}: more than {MOST_REQUESTS:,} invocations; cut the file")
    return calls
