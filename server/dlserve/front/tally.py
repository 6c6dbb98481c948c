"""What one front end has counted, as another adds it to its own: so that sums are told, whichever of them is asked."""

from collections.abc import Sequence
from typing import Any

import msgspec

from dlserve.front.services import Service, Statistics


class Tally(msgspec.Struct, array_like=True):
    """All counts of one front end, since the first process in its place began."""

    served: dict[str, list[object]]
    """Of each service by name, in the form of `metrics._Served.plain`."""
    counts: list[dict[tuple[str, ...], list[float]]]
    """Counters by their labels, in the order of `Metrics.tally`."""
    statistics: dict[int, Statistics]
    """By the services' lineage."""
    process: dict[str, float]
    """What the process takes, by the name of the metric."""

    def of_the_dead(self) -> "Tally":
        """What is left of it when its process has ended: all but what it held."""
        cpu = "process_cpu_seconds_total"
        return msgspec.structs.replace(self, process={cpu: self.process[cpu]} if cpu in self.process else {})


def statistics_of(service: Service, others: Sequence[Tally]) -> Statistics:
    """A service's totals over all front ends."""
    parts = [tally.statistics[service.lineage] for tally in others if service.lineage in tally.statistics]
    if not parts:
        return service.statistics.settled()
    total = Statistics()
    for part in (service.statistics.settled(), *parts):
        total.add(part)
    return total


def joined(one: Tally, other: Tally) -> Tally:
    """Both as one."""
    statistics = dict(one.statistics)
    for lineage, more in other.statistics.items():
        total = Statistics()
        for part in (statistics.get(lineage, total), more):
            total.add(part)
        statistics[lineage] = total
    served = _sum(one.served, other.served)
    return Tally(served, _sum(one.counts, other.counts), statistics, _sum(one.process, other.process))


def _sum(one: Any, other: Any) -> Any:
    """Numbers added up, in lists place by place, in dicts key by key."""
    if isinstance(one, dict):
        return one | {key: _sum(one[key], value) if key in one else value for key, value in other.items()}
    if isinstance(one, list):
        return [_sum(mine, more) for mine, more in zip(one, other, strict=True)]
    return one + other


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Tally).decode
