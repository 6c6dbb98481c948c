"""dlload.search: the way of the search with servers that are exactly known, and its answers for simulated queues."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from dlload.errors import OptionError
from dlload.search import Answer, Probe, RateSearch, SearchBounds
from dlload.slo import parse_slo
from dlload.standing import Figures
from numpy.typing import NDArray

from .queueing import capacity, simulate

Target = Callable[[Probe], Figures]
P99 = parse_slo("p99<50ms")


def exact(capacity_per_s: float) -> Target:
    """Answers in 10 ms up to its capacity and in 1 s beyond."""

    def run(probe: Probe) -> Figures:
        latency = 0.01 if probe.rate_per_s <= capacity_per_s else 1.0
        return figures(probe, np.full(probe.requests, latency))

    return run


def queue(servers: int, seed: int) -> Target:
    """An M/D/c with a service time of 10 ms; a tenth of each run is a warm-up that does not count."""
    generator = np.random.default_rng(seed)

    def run(probe: Probe) -> Figures:
        warm_up = 200 + probe.requests // 10
        _, responses = simulate(probe.rate_per_s, 0.01, servers, probe.requests + warm_up, generator)
        return figures(probe, responses[warm_up:])

    return run


def figures(probe: Probe, latencies: NDArray[np.float64]) -> Figures:
    return Figures(probe.requests, 0, probe.requests / probe.rate_per_s, probe.rate_per_s, latencies)


def walk(search: RateSearch, target: Target) -> tuple[Answer, list[Probe]]:
    """The whole search."""
    probes: list[Probe] = []
    while (probe := search.next_probe()) is not None:
        assert probe == search.next_probe()
        probes.append(probe)
        search.observe(probe, target(probe))
    return search.answer(), probes


@pytest.mark.parametrize("start", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("limit", [37.0, 150.0, 900.0])
def test_the_capacity_is_found_from_any_start(start: float, limit: float) -> None:
    answer, probes = walk(RateSearch(P99, SearchBounds(start)), exact(limit))
    assert answer.found == "found"
    assert answer.rate_per_s is not None
    assert limit / 1.08 <= answer.rate_per_s <= limit
    assert answer.upper_per_s is not None
    assert answer.upper_per_s > limit
    assert len(probes) == answer.probes <= 25
    assert sum(probe.requests for probe in probes) == answer.requests


def test_rates_are_doubled_then_bisected_then_brought_to_length_then_confirmed() -> None:
    _, probes = walk(RateSearch(P99, SearchBounds(100.0)), exact(330.0))
    told = [(probe.purpose, round(probe.rate_per_s), probe.requests) for probe in probes]
    assert told[:6] == [
        ("bracket", 100, 2144),
        ("bracket", 200, 2144),
        ("bracket", 400, 2144),
        ("bisect", 283, 2144),
        ("bisect", 336, 2144),
        ("bisect", 308, 2144),
    ]
    assert told[6:9] == [("bisect", 322, 2144), ("lengthen", 336, 15008), ("lengthen", 322, 15008)]
    assert {purpose for purpose, _, _ in told[9:]} == {"confirm"}
    assert all(requests == 8 * 2144 for _, _, requests in told[9:])


def test_a_rate_that_cannot_be_told_is_probed_for_longer() -> None:
    search = RateSearch(P99, SearchBounds(100.0, lengthen=4))
    lengths = []
    for _ in range(3):
        probe = search.next_probe()
        assert probe is not None
        lengths.append((probe.rate_per_s, probe.requests))
        latencies = np.full(probe.requests, 0.01)
        latencies[::110] = 1.0  # 0.9 %: within the bound, but not surely
        search.observe(probe, figures(probe, latencies))
    assert lengths == [(100.0, 2144), (100.0, 2144), (100.0, 4288)]
    following = search.next_probe()
    assert following is not None
    assert following.rate_per_s == 200.0  # by what was measured


def test_an_objective_that_is_always_met_says_so() -> None:
    answer, probes = walk(RateSearch(P99, SearchBounds(100.0, highest_per_s=300.0)), exact(1e9))
    assert (answer.found, answer.rate_per_s, answer.upper_per_s) == ("always-met", 300.0, None)
    assert "raise the limit" in answer.sentence
    assert probes[-1].purpose == "confirm"


def test_an_objective_that_is_never_met_says_so() -> None:
    answer, _ = walk(RateSearch(P99, SearchBounds(100.0, lowest_per_s=30.0)), exact(0.0))
    assert (answer.found, answer.rate_per_s, answer.upper_per_s) == ("never-met", None, 30.0)
    assert "lowest rate, 30 requests/s" in answer.sentence


def test_a_confirmation_that_misses_steps_down() -> None:
    search = RateSearch(P99, SearchBounds(100.0))
    missed = itertools.count()

    def moody(probe: Probe) -> Figures:
        worse = probe.purpose == "confirm" and next(missed) < 2
        return figures(probe, np.full(probe.requests, 1.0)) if worse else exact(330.0)(probe)

    answer, probes = walk(search, moody)
    confirmed = [probe.rate_per_s for probe in probes if probe.purpose == "confirm"]
    assert answer.found == "found"
    assert answer.rate_per_s == confirmed[-1]
    assert [before / after for before, after in itertools.pairwise(confirmed)] == pytest.approx(
        [1.02] * (len(confirmed) - 1)
    )
    assert len(confirmed) >= 3


def test_a_target_that_never_confirms_is_given_no_rate_as_found() -> None:
    def liar(probe: Probe) -> Figures:
        return exact(330.0 if probe.purpose != "confirm" else 0.0)(probe)

    answer, probes = walk(RateSearch(P99, SearchBounds(100.0, confirmations=3)), liar)
    assert (answer.found, answer.rate_per_s) == ("not-confirmed", None)
    assert sum(probe.purpose == "confirm" for probe in probes) == 3
    assert "not the same from run to run" in answer.sentence


def test_a_short_probe_that_misjudged_is_put_right_at_full_length() -> None:
    visits = itertools.count()

    def unlucky(probe: Probe) -> Figures:
        if probe.rate_per_s == 200.0 and next(visits) == 0:
            latencies = np.full(probe.requests, 0.01)
            latencies[::40] = 1.0  # 2.5 % of this probe, so surely too many; 0.3 % of all at full length
            return figures(probe, latencies)
        return exact(330.0)(probe)

    answer, probes = walk(RateSearch(P99, SearchBounds(100.0)), unlucky)
    assert [round(probe.rate_per_s) for probe in probes[:4]] == [100, 200, 141, 168]  # fooled
    assert answer.rate_per_s is not None
    assert answer.rate_per_s > 300


def test_a_rate_that_is_bad_one_time_in_eight_is_not_good() -> None:
    visits = itertools.count()

    def moody(probe: Probe) -> Figures:
        return exact(0.0 if probe.rate_per_s == 200.0 and next(visits) == 0 else 330.0)(probe)

    answer, _ = walk(RateSearch(P99, SearchBounds(100.0)), moody)
    assert answer.upper_per_s == 200.0


def test_the_number_of_runs_is_bounded() -> None:
    answer, probes = walk(RateSearch(P99, SearchBounds(100.0, probes=5)), exact(330.0))
    assert len(probes) == 5
    assert answer.found == "gave-up"
    assert "between 282.8 and 336.4; allow it more" in answer.sentence


def test_a_search_that_is_stopped_says_so_and_what_it_knows() -> None:
    search = RateSearch(P99, SearchBounds(100.0))
    for _ in range(2):
        probe = search.next_probe()
        assert probe is not None
        search.observe(probe, exact(150.0)(probe))
    answer = search.answer()
    assert answer.found == "gave-up"
    assert "stopped after 2 runs with the answer between 100 and 200; run it again" in answer.sentence


def test_a_run_of_nothing_teaches_nothing() -> None:
    search = RateSearch(P99, SearchBounds(100.0))
    probe = search.next_probe()
    assert probe is not None
    with pytest.raises(ValueError, match="sent nothing"):
        search.observe(probe, Figures(0, 0, 1.0, 0.0, []))


@pytest.mark.parametrize(
    "bounds",
    [
        SearchBounds(0.5),
        SearchBounds(20_000.0),
        SearchBounds(10.0, lowest_per_s=0.0),
        SearchBounds(float("nan")),
        SearchBounds(10.0, tolerance=0.0),
        SearchBounds(10.0, probes=0),
    ],
)
def test_bounds_that_cannot_be_searched_are_refused(bounds: SearchBounds) -> None:
    with pytest.raises(OptionError, match="search"):
        RateSearch(P99, bounds)


@pytest.mark.parametrize(
    ("servers", "percent", "bound_ms"),
    [(1, 99, 50), (2, 99, 30), (2, 99, 50), (2, 99, 100), (2, 95, 40), (2, 90, 30), (2, 90, 60)],
)
def test_the_answer_for_a_queue_is_within_a_20th_of_theory_29_times_in_30(
    servers: int, percent: int, bound_ms: int
) -> None:
    truth = capacity(percent / 100, bound_ms / 1000, 0.01, servers)
    conditions = parse_slo(f"p{percent}<{bound_ms}ms" + (",errors<0.1%" if percent == 99 else ""))
    near = 0
    for seed in range(30):
        answer, probes = walk(RateSearch(conditions, SearchBounds(50.0)), queue(servers, seed))
        assert answer.found == "found"
        assert answer.rate_per_s is not None
        near += abs(answer.rate_per_s / truth - 1) <= 0.05
        assert len(probes) <= 40
    assert near >= 29


def test_the_curve_has_every_rate_once_in_order() -> None:
    search = RateSearch(P99, SearchBounds(50.0))
    walk(search, queue(2, 1))
    points = search.curve()
    assert [point.rate_per_s for point in points] == sorted({point.rate_per_s for point in points})
    assert points[0].meets
    assert not points[-1].meets
    assert points[0].p50_s == pytest.approx(0.01)
    assert all(point.mean_s >= 0.01 for point in points)
