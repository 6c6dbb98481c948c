"""This run's networks beside what the stream test of 2018 published of the same ones: batches of 1 and 64, size of their files."""

from dataclasses import dataclass

from dlclient.statistics import mean

from dlreport.published import Published, PublishedNetwork, network_figures
from dlreport.quantity import milliseconds, plain, significant
from dlreport.stream.view import StreamView
from dlreport.table import Cell, Column, Row, Table, missing, name

_MIB = 1 << 20
_BATCH = 64
"""The larger of the two batches that were published."""


FEWEST_TO_DRAW = 3
"""A picture of fewer of them says no more than the table, and a stream of fewer is hardly that of 2018."""


@dataclass(frozen=True, slots=True)
class Network:
    """A streamed network that was published. Of this run, None: not measured, or not told."""

    name: str
    published: PublishedNetwork
    forward_s: float | None
    """Mean forward of single images, warm, in a batch of their own."""
    forward_n: int
    forward_64_s: float | None
    """The same of requests of 64 images."""
    forward_64_n: int
    weights_bytes: int | None


def compared_networks(view: StreamView) -> tuple[Network, ...]:
    """In the order in which the run has them."""
    published = network_figures()
    return tuple(_network(view, service, published[service]) for service in view.services if service in published)


def _network(view: StreamView, service: str, published: PublishedNetwork) -> Network:
    baseline = view.baseline
    forward_s, samples = baseline.forward_alone_s.get(service, (None, 0)) if baseline else (None, 0)
    batches_s = [
        record.stages["forward"]
        for record in (baseline.records if baseline else ())
        if record.ok and record.model == service and record.images == record.batch_size == _BATCH
        and record.stages and "forward" in record.stages
    ]  # fmt: skip
    sizes = (phase.phase.services[service].weights_bytes for phase in view.phases if service in phase.phase.services)
    return Network(
        name=service,
        published=published,
        forward_s=forward_s,
        forward_n=samples,
        forward_64_s=mean(batches_s),
        forward_64_n=len(batches_s),
        weights_bytes=next((size for size in sizes if size), None),
    )


def networks(view: StreamView) -> Table | None:
    """A row for each streamed network that was published; None where none was."""
    published = network_figures()
    shared = compared_networks(view)
    if not shared:
        return None
    batched = any(network.forward_64_n for network in shared)
    columns = (
        Column("model", "model", numeric=False),
        Column("published_as", "published as", numeric=False),
        Column("forward_s", "this run, forward", "ms"),
        Column("forward_n", "this run, requests", printed=False),
        Column("published_cpu_s", f"{_hardware(published, 'cpu')}, published", "ms"),
        Column("published_gpu_s", f"{_hardware(published, 'gpu')}, published", "ms"),
        *((Column("forward_64_s", f"this run, forward of {_BATCH}", "ms"),) if batched else ()),
        Column("published_gpu_64_s", f"{_hardware(published, 'gpu_64')}, batch {_BATCH}, published", "ms"),
        Column("weights_bytes", "this run, weights", "MiB"),
        Column("published_file_bytes", "published, weights file", "MiB"),
        Column("timed_scope", "timed scope", numeric=False),
        Column("comparability", "class", numeric=False),
        Column("remark", "remark", numeric=False),
    )
    rows = tuple(Row(_cells(view, network, batched=batched)) for network in shared)
    return Table("networks", "The networks one by one, beside those published", columns, rows)


def unpublished(view: StreamView) -> str:
    """The streamed networks that have no row."""
    published = network_figures()
    return ", ".join(service for service in view.services if service not in published)


def _cells(view: StreamView, network: Network, *, batched: bool) -> tuple[Cell, ...]:
    published, weights = network.published, network.weights_bytes
    told = published.cpu or published.gpu or published.file
    remarks = ["this run's device was simulated"] if view.run.simulated else []
    remarks += ["this run is invalid"] if view.run.verdict != "valid" else []
    remarks += [f"other, older hardware; {told.software}; {told.remark}"] if told else []
    return (
        name(network.name),
        name(published.name),
        _mean(network.forward_s, network.forward_n),
        Cell(network.forward_n, str(network.forward_n)),
        _milliseconds(published.cpu),
        _milliseconds(published.gpu),
        *((_mean(network.forward_64_s, network.forward_64_n),) if batched else ()),
        _milliseconds(published.gpu_64),
        missing() if weights is None else Cell(weights, significant(weights / _MIB)),
        missing("") if not published.file or published.file.value is None
        else Cell(round(published.file.value * _MIB), plain(published.file.value)),
        name(told.timed_scope if told else ""),
        name(told.comparability if told else ""),
        name("; ".join(remarks)),
    )  # fmt: skip


def _mean(seconds: float | None, samples: int) -> Cell:
    return missing(f"n/a (n={samples})") if seconds is None else Cell(seconds, milliseconds(seconds))


def _milliseconds(published: Published | None) -> Cell:
    if published is None or published.value is None:
        return missing("not published")
    return Cell(published.value / 1e3, plain(published.value))


def _hardware(published: dict[str, PublishedNetwork], device: str) -> str:
    """What the published figures are from; they are all from the same."""
    named = (getattr(network, device) for network in published.values())
    return next((row.hardware for row in named if row is not None), "")
