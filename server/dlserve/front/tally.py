"""What one front end has counted, as another adds it to its own: so that sums are told, whichever of them is asked."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import msgspec
from msgspec.structs import astuple

from dlserve.front.services import Service
from dlserve.front.statistics import Statistics, summed


class Tally(msgspec.Struct, array_like=True):
    """All counts of one front end, since the first process in its place began."""

    served: dict[str, list[object]]
    """Of each service by name, in the form of `Served.plain`."""
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
    parts = (tally.statistics[service.lineage] for tally in others if service.lineage in tally.statistics)
    return reduce(add, parts, service.settled())


def joined(one: Tally, other: Tally) -> Tally:
    """Both as one."""
    return Tally(*map(summed, astuple(one), astuple(other)))


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Tally).decode
