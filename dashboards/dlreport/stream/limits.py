"""What being cold cost beside what moving the same bytes costs on this machine at best."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from dlclient.limits import Bandwidth, Limits
from dlclient.results import Summary

from dlreport.quantity import gigabytes, megabytes, milliseconds, moment, significant
from dlreport.stream import facts
from dlreport.stream.view import PhaseView, StreamView
from dlreport.table import Cell, Column, Row, Table, missing, name

HOW_TO_GET = (
    "This run was given no limits of its machine, so there is nothing to hold the loads against. Measure them with"
    " `dlmodels limits --output limits.json` on the machine that serves, and give the stream `--limits limits.json`."
)
SIMULATED = "A simulated device answered: what its loads take is told to it, and no matter of this machine's limits."


@dataclass(frozen=True, slots=True)
class Path:
    """The way of the weights: its hops, of which the slowest sets the pace, since they can overlap."""

    hops: tuple[tuple[str, Bandwidth], ...]

    @property
    def slowest(self) -> tuple[str, float] | None:
        """The hop that sets the pace and its bytes per second; None where a hop was not measured."""
        paces = [(text, hop.bytes_per_s) for text, hop in self.hops if hop.bytes_per_s is not None]
        return min(paces, key=lambda pace: pace[1]) if paces and len(paces) == len(self.hops) else None


def path_of(phase: str, limits: Limits, *, on_gpu: bool, drops_page_cache: bool) -> Path:
    """What the weights of a cold request pass through."""
    file = (
        ("file read, page cache dropped", limits.file_dropped)
        if drops_page_cache
        else ("file read, page cache warm", limits.file_cached)
    )
    copy = ("pinned memory to GPU", limits.pinned_to_device)
    if phase == "host":
        return Path((copy,))
    return Path((file, copy) if on_gpu else (file,))


def limits_table(view: StreamView) -> Table | None:
    """Each cold figure's load, its limit and their ratio; None without a cold phase, limits, or a real device."""
    if view.limits is None or not view.cold or view.run.simulated:
        return None
    columns = (
        Column("model", "model", numeric=False),
        Column("phase", "phase", numeric=False),
        Column("weights_bytes", "weights", "MB"),
        Column("load_s", "load", "ms"),
        Column("limit_s", "limit", "ms"),
        Column("fraction_of_limit", "of the limit", "%"),
        Column("load_bytes_per_s", "load", "GB/s"),
        Column("limit_bytes_per_s", "limit", "GB/s"),
        Column("path", "the limit is", numeric=False),
    )
    rows = [
        Row(_cells(view, view.limits, phase, service, summary), service, phase.name)
        for service in view.services
        for phase in view.cold
        if (summary := phase.phase.services.get(service)) is not None
    ]
    return Table("limits", "Cold loads beside the machine's limits", columns, tuple(rows))


def _cells(view: StreamView, limits: Limits, phase: PhaseView, service: str, summary: Summary) -> tuple[Cell, ...]:
    way = path_of(phase.name, limits, on_gpu=facts.on_gpu(view.run), drops_page_cache=facts.drops_page_cache(view.run))
    slowest, weights, rate = way.slowest, summary.weights_bytes, summary.load_bytes_per_s
    load_s = weights / rate if weights and rate else None
    limit_s = weights / slowest[1] if weights and slowest else None
    fraction = rate / slowest[1] if rate and slowest else None
    unmeasured = "; ".join(
        f"{text} was not measured: {hop.reason}" for text, hop in way.hops if hop.bytes_per_s is None
    )
    return (
        name(service),
        name(phase.label),
        missing() if weights is None else Cell(weights, megabytes(weights)),
        missing("not seen" if summary.latency_n else "n/a") if load_s is None else Cell(load_s, milliseconds(load_s)),
        missing() if limit_s is None else Cell(limit_s, milliseconds(limit_s)),
        missing("") if fraction is None else Cell(fraction, significant(fraction * 100)),
        missing("") if rate is None else Cell(rate, gigabytes(rate)),
        missing() if slowest is None else Cell(slowest[1], gigabytes(slowest[1])),
        name(slowest[0]) if slowest else missing(unmeasured),
    )


def source(view: StreamView) -> str:
    """Where the limits were measured; says so where that was another machine than the one that was streamed at."""
    if view.run.simulated:
        return SIMULATED
    if view.limits is None:
        return HOW_TO_GET
    machine = view.limits.machine
    text = (
        f"Measured on {machine.host} ({machine.cpu_model}, {machine.cpu_cores} cores"
        f"{f', {machine.gpu}' if machine.gpu else ''}) at {moment(view.limits.measured)}, by one thread that moves"
        f" {megabytes(view.limits.size_bytes)} MB at a time."
    )
    if _local(view.run.target.url) and machine.host != view.run.environment.host:
        text += f" That is another machine than the one that served, {view.run.environment.host}: measure there."
    return text


def _local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
