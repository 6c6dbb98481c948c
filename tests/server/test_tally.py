"""Counts of several front ends, added up: by tables, no server."""

from dlmodels.spec import ModelSpec
from dlserve.front import tally
from dlserve.front.services import Service
from dlserve.front.statistics import STAGES, Row, Served, Statistics, Timing
from dlserve.front.tally import Tally, joined, statistics_of

TIMING = Timing(*[0.25] * len(STAGES))


def row(batch_size: int) -> Row:
    return 2, batch_size, "warm", 0, 0.25, 1.0, 1.25, TIMING


def counted(lineage: int, calls: int, failures: int, batch_size: int) -> Tally:
    statistics, everything = Statistics(), Served()
    for _ in range(calls):
        everything.succeeded(statistics, row(batch_size))
    for _ in range(failures):
        everything.failed(statistics, 500, 0.5)
    everything.settled()
    served: dict[str, list[object]] = {"one": [{200: calls}, 2 * calls, {"warm": calls}, [[[calls, 0], 1.5]]]}
    return Tally(
        served,
        [{("0", "one"): [calls, 0.5]}],
        {lineage: statistics},
        {"process_cpu_seconds_total": 2.0, "a": 1},
    )


def test_both_as_one_counts_what_each_has_counted_and_crosses_the_wire() -> None:
    one, other = counted(1, 3, 1, 2), counted(1, 2, 0, 4)
    other.served["two"] = [{404: 1}, 0, {}, []]
    both = tally.decode(tally.encode(joined(one, tally.decode(tally.encode(other)))))
    assert both.served == {"one": [{200: 5}, 10, {"warm": 5}, [[[5, 0], 3.0]]], "two": [{404: 1}, 0, {}, []]}
    assert both.counts == [{("0", "one"): [5, 1.0]}]
    totals = both.statistics[1]
    assert (totals.success, totals.failure, totals.images, totals.predict_s) == (5, 1, 10, 5.5)
    assert totals.stages_s["forward"] == 1.25
    assert {size: batch.executions for size, batch in totals.batches.items()} == {2: 3.0, 4: 1.0}
    assert totals.last_at == max(part.statistics[1].last_at for part in (one, other))
    assert one.statistics[1].success == 3, "what was added up is as it was"


def test_of_a_dead_process_only_what_it_has_used_up_counts() -> None:
    assert counted(1, 1, 0, 1).of_the_dead().process == {"process_cpu_seconds_total": 2.0}


def test_a_service_s_totals_follow_its_lineage_and_no_other_s() -> None:
    service = Service(7, 1, "one", ModelSpec("one", "simulated"), ())
    service.served.succeeded(service.statistics, row(2))
    assert statistics_of(service, []) is service.statistics
    assert statistics_of(service, [counted(2, 9, 9, 1)]) is service.statistics
    total = statistics_of(service, [counted(1, 3, 1, 2), counted(7, 5, 0, 1)])
    assert (total.success, total.failure, service.statistics.success) == (4, 1, 1)
