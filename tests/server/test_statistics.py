"""What services have answered, counted from rows: no server."""

import pytest
from dlserve.front import tally
from dlserve.front.statistics import MOST_ROWS, STAGES, Histogram, Row, Served, Statistics, Timing
from dlserve.front.tally import Tally


def row(images: int, batch_size: int, worker: int = 0, off: float | None = None, sent_s: float = 1.0) -> Row:
    """Stage i of it takes i / 1000 s, beginning with 1."""
    timing = Timing(*(place / 1000 for place, _ in enumerate(STAGES, 1)))
    return images, batch_size, "warm", worker, off, 0.75, sent_s, timing


def counts(histogram: Histogram) -> dict[float, int]:
    """By upper bound, without those of nothing."""
    bounds = [*histogram.bounds, float("inf")]
    return {bound: count for bound, count in zip(bounds, histogram.counts, strict=True) if count}


def test_a_row_counts_in_the_metrics_of_its_name_and_in_the_statistics_of_its_service() -> None:
    served, statistics = Served(), Statistics()
    served.succeeded(statistics, row(1, 4, off=0.01, sent_s=0.0005))
    served.succeeded(statistics, row(3, 4, worker=1, off=7.0, sent_s=11.0))
    served.succeeded(statistics, row(2, 2, worker=1))
    served.failed(statistics, 429, 0.25)
    served.settled()
    assert served.codes == {200: 3, 429: 1}
    assert (served.images, served.cache) == (6, {"warm": 3})
    assert counts(served.call_s) == {0.0005: 1, 0.3: 1, 1.0: 1, float("inf"): 1}, "a bound belongs to its bucket"
    assert served.call_s.total == pytest.approx(12.2505)
    assert (counts(served.batch_size), served.batch_size.total) == ({4: 2, 2: 1}, 10)
    assert (counts(served.prediction), served.prediction.total) == ({0.01: 1, float("inf"): 1}, 7.01)
    assert counts(served.stages["forward"]) == {0.0075: 3}
    assert served.stages["post"].total == pytest.approx(0.021)
    assert served.busy_s == pytest.approx({0: 0.011 / 4, 1: 0.011 * 7 / 4}), "a call's share of load and forward"
    assert (statistics.images, statistics.success, statistics.failure) == (6, 3, 1)
    assert (statistics.success_s, statistics.failure_s, statistics.predict_s) == (2.25, 0.25, 2.5)
    assert statistics.stages_s["post"] == pytest.approx(0.021)
    assert {size: batch.executions for size, batch in statistics.batches.items()} == {4: 1.0, 2: 1.0}
    assert statistics.batches[4].forward_s == pytest.approx(0.006)
    assert statistics.executions == 2
    assert statistics.last_at > 0


def test_rows_are_counted_once_there_are_many_and_none_of_them_twice() -> None:
    served, statistics = Served(), Statistics()
    for _ in range(MOST_ROWS + 1):
        served.succeeded(statistics, row(1, 1))
    assert statistics.success == MOST_ROWS
    assert served.settled().settled().codes == {200: MOST_ROWS + 1}
    assert statistics.success == MOST_ROWS + 1


def test_calls_of_a_deleted_service_still_count_as_its_own_beside_those_of_its_namesake() -> None:
    served, deleted, made_again = Served(), Statistics(), Statistics()
    for statistics in (deleted, made_again, deleted, made_again, made_again):
        served.succeeded(statistics, row(2, 2))
    served.settled()
    assert (deleted.success, made_again.success, served.codes[200], served.images) == (2, 3, 5, 10)


def test_what_is_told_to_another_front_end_is_all_that_was_counted() -> None:
    served, statistics = Served(), Statistics()
    served.succeeded(statistics, row(2, 2, off=0.5))
    served.failed(statistics, 504, 0.5)
    told = Tally({"one": served.settled().plain()}, [], {1: statistics}, {})
    heard = tally.decode(tally.encode(told))
    assert Served.of(heard.served["one"]).plain() == served.plain()
    assert heard.statistics == {1: statistics}
