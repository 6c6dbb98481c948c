"""dlload.standing: how figures are judged, and how many they must be."""

import numpy as np
import pytest
from dlload.slo import parse_slo
from dlload.standing import Figures, excess, judge, overall, pool, requests_needed


def figures(
    fast: int, slow: int = 0, errors: int = 0, delivered: float = 1.0, *, bunched: bool = False, slow_s: float = 0.1
) -> Figures:
    """Answers of 10 ms and of `slow_s`, in a seeded order or with all slow ones together, in 10 s."""
    latencies = np.concatenate([np.full(fast, 0.01), np.full(slow, slow_s)])
    if not bunched:
        np.random.default_rng(1).shuffle(latencies)
    requests = fast + slow + errors
    return Figures(
        requests, errors, 10.0, delivered * requests / 10.0, latencies, service_s=np.full(fast + slow, 0.005)
    )


@pytest.mark.parametrize(
    ("given", "outcome", "sure"),
    [
        (figures(662), "met", True),
        (figures(661, 1), "met", True),  # MLPerf's early stopping: one over is allowed from 662 on
        (figures(660, 2), "cannot-tell", False),
        (figures(458), "cannot-tell", False),
        (figures(459), "met", True),
        (figures(986, 14), "missed", False),
        (figures(900, 100), "missed", True),
        (figures(90, 10), "missed", True),
        (figures(4, 0), "cannot-tell", False),
        (figures(0, 0, errors=50), "missed", True),
    ],
)
def test_a_percentile_is_met_where_early_stopping_confirms_it(given: Figures, outcome: str, sure: bool) -> None:
    (standing,) = judge(parse_slo("p99<50ms"), given)
    assert (standing.outcome, standing.sure) == (outcome, sure)


def test_a_failed_request_is_over_every_bound() -> None:
    (standing,) = judge(parse_slo("p99<50ms"), figures(900, 0, errors=100))
    assert standing.outcome == "missed"
    assert standing.sentence == "p99<50ms: measured no answer; 100 of 1000 requests were over, 100 of them failed"


def test_the_bound_itself_is_within_only_where_it_says_so() -> None:
    assert judge(parse_slo("p99<=100ms"), figures(0, 1000))[0].outcome == "met"
    assert judge(parse_slo("p99<100ms"), figures(0, 1000))[0].outcome == "missed"


def test_slow_requests_in_one_bunch_tell_less_than_as_many_apart() -> None:
    apart, together = (judge(parse_slo("p99<50ms"), figures(2980, 12, bunched=bunched))[0] for bunched in (False, True))
    assert apart.outcome == "met"
    assert together.outcome == "cannot-tell"
    assert "too few to tell" in together.sentence


def test_what_cannot_be_told_says_how_many_more_would_do() -> None:
    (standing,) = judge(parse_slo("p99<50ms"), figures(458))
    assert standing.sentence == (
        "p99<50ms: 0 of 458 requests were over; too few to tell: 1 more, all of them under, would confirm it with 99% confidence"
    )


def test_each_clock_has_its_own_latencies() -> None:
    standings = judge(parse_slo("service:p99<6ms,p99<6ms,ttfb:p99<6ms"), figures(1000))
    assert [standing.outcome for standing in standings] == ["met", "missed", "cannot-tell"]
    assert "no ttfb times" in standings[2].sentence


def test_a_mean_is_met_where_its_interval_is() -> None:
    given = figures(900, 100)  # 19 ms, give or take 2
    told = {
        text: judge(parse_slo(text), given)[0].outcome
        for text in ("mean<25ms", "mean<19.5ms", "mean<18.5ms", "mean<12ms")
    }
    assert told == {"mean<25ms": "met", "mean<19.5ms": "cannot-tell", "mean<18.5ms": "missed", "mean<12ms": "missed"}
    assert [judge(parse_slo(text), given)[0].sure for text in told] == [True, False, False, True]
    assert judge(parse_slo("mean<1s"), figures(5))[0].outcome == "cannot-tell"
    assert judge(parse_slo("mean<1s"), figures(0, errors=5))[0].outcome == "cannot-tell"


@pytest.mark.parametrize(
    ("text", "given", "outcome"),
    [
        ("errors<0.1%", figures(1000), "met"),
        ("errors<0.1%", figures(999), "cannot-tell"),
        ("errors<0.1%", figures(998, errors=1), "missed"),
        ("errors<1%", figures(991, errors=9), "met"),
        ("errors<1%", figures(990, errors=10), "missed"),
        ("errors<=1%", figures(990, errors=10), "met"),
        ("errors<=0%", figures(10), "met"),
        ("errors<=0%", figures(9, errors=1), "missed"),
        ("errors<1%", figures(0), "cannot-tell"),
        ("rate>=95%", figures(1000, delivered=0.95), "met"),
        ("rate>=95%", figures(1000, delivered=0.94), "missed"),
        ("rate>=100/s", figures(1000), "met"),
        ("rate>100/s", figures(1000), "missed"),
        ("rate>=95%", figures(0), "cannot-tell"),
    ],
)
def test_errors_and_rates_are_what_they_are(text: str, given: Figures, outcome: str) -> None:
    assert judge(parse_slo(text), given)[0].outcome == outcome


def test_one_missed_condition_misses_the_objective() -> None:
    conditions = parse_slo("p99<50ms,errors<0.1%")
    assert overall(judge(conditions, figures(1000))) == "met"
    assert overall(judge(conditions, figures(700))) == "cannot-tell"
    assert overall(judge(conditions, figures(458, errors=9))) == "missed"


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        ("p90<1s", 197),
        ("p99<1s", 2144),
        ("p99<1s,errors<0.01%", 10_000),
        ("mean<1s", 1000),
        ("rate>=95%", 1),
        ("errors<=0%", 1),
    ],
)
def test_a_probe_is_long_enough_for_its_conditions(text: str, requests: int) -> None:
    assert requests_needed(parse_slo(text)) == requests


def test_so_many_requests_confirm_a_server_that_has_half_of_what_may_be_over() -> None:
    needed = requests_needed(parse_slo("p99<50ms"))
    slow = int(needed * 0.005)
    assert judge(parse_slo("p99<50ms"), figures(needed - slow, slow))[0].outcome == "met"


@pytest.mark.parametrize("text", ["p99<50ms", "mean<15ms", "errors<10%", "rate>=95%", "rate>=99/s"])
def test_the_excess_is_below_0_within_the_bound_and_above_beyond(text: str) -> None:
    conditions = parse_slo(text)
    assert excess(conditions, figures(1000, 2)) < 0
    assert excess(conditions, figures(700, 150, errors=150, delivered=0.85)) > 0


def test_runs_at_one_rate_pool_into_one() -> None:
    whole = pool([Figures(10, 1, 2.0, 4.5, [0.1] * 9), Figures(30, 0, 6.0, 5.0, [0.2] * 30)])
    assert (whole.requests, whole.errors, whole.duration_s, whole.latencies("response").size) == (40, 1, 8.0, 39)
    assert whole.delivered_per_s == pytest.approx(39 / 8)
