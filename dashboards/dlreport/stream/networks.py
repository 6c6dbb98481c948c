"""This run's networks beside what the stream test of 2018 published of the same ones: batch 1, and size of their files."""

from dlreport.published import Published, PublishedNetwork, network_figures
from dlreport.quantity import milliseconds, plain, significant
from dlreport.stream.view import StreamView
from dlreport.table import Cell, Column, Row, Table, missing, name

_MIB = 1 << 20


def networks(view: StreamView) -> Table | None:
    """A row for each streamed network that was published; None where none was."""
    published = network_figures()
    shared = [service for service in view.services if service in published]
    if not shared:
        return None
    columns = (
        Column("model", "model", numeric=False),
        Column("published_as", "published as", numeric=False),
        Column("forward_s", "this run, forward", "ms"),
        Column("forward_n", "this run, requests", printed=False),
        Column("published_cpu_s", f"{_hardware(published, 'cpu')}, published", "ms"),
        Column("published_gpu_s", f"{_hardware(published, 'gpu')}, published", "ms"),
        Column("weights_bytes", "this run, weights", "MiB"),
        Column("published_file_bytes", "published, weights file", "MiB"),
        Column("timed_scope", "timed scope", numeric=False),
        Column("comparability", "class", numeric=False),
        Column("remark", "remark", numeric=False),
    )
    rows = tuple(Row(_cells(view, service, published[service])) for service in shared)
    return Table("networks", "The networks one by one, beside those published", columns, rows)


def unpublished(view: StreamView) -> str:
    """The streamed networks that have no row."""
    published = network_figures()
    return ", ".join(service for service in view.services if service not in published)


def _cells(view: StreamView, service: str, published: PublishedNetwork) -> tuple[Cell, ...]:
    baseline = view.baseline
    forward_s, samples = baseline.forward_alone_s.get(service, (None, 0)) if baseline else (None, 0)
    sizes = (phase.phase.services[service].weights_bytes for phase in view.phases if service in phase.phase.services)
    weights = next((size for size in sizes if size), None)
    told = published.cpu or published.gpu or published.file
    remarks = ["this run's device was simulated"] if view.run.simulated else []
    remarks += ["this run is invalid"] if view.run.verdict != "valid" else []
    remarks += [f"other, older hardware; {told.software}; {told.remark}"] if told else []
    return (
        name(service),
        name(published.name),
        missing(f"n/a (n={samples})") if forward_s is None else Cell(forward_s, milliseconds(forward_s)),
        Cell(samples, str(samples)),
        _milliseconds(published.cpu),
        _milliseconds(published.gpu),
        missing() if weights is None else Cell(weights, significant(weights / _MIB)),
        missing("") if not published.file or published.file.value is None
        else Cell(round(published.file.value * _MIB), plain(published.file.value)),
        name(told.timed_scope if told else ""),
        name(told.comparability if told else ""),
        name("; ".join(remarks)),
    )  # fmt: skip


def _milliseconds(published: Published | None) -> Cell:
    if published is None or published.value is None:
        return missing("not published")
    return Cell(published.value / 1e3, plain(published.value))


def _hardware(published: dict[str, PublishedNetwork], device: str) -> str:
    """What the published figures are from; they are all from the same."""
    named = (getattr(network, device) for network in published.values())
    return next((row.hardware for row in named if row is not None), "")
