"""dlload.slo: what can be written, and what is refused."""

import pytest
from dlload.errors import OptionError
from dlload.slo import parse_slo


def test_every_kind_of_condition_can_be_written() -> None:
    text = "p99<50ms,errors<0.1%,p50<=10ms,mean<12ms,rate>=95%,p99.9<1s,service:p99<40ms, ttfb:p90<250us"
    told = [(c.metric, c.clock, c.comparison, c.bound, c.fraction) for c in parse_slo(text)]
    assert told == [
        ("percentile", "response", "<", 0.05, 0.99),
        ("errors", "response", "<", 0.001, 0.0),
        ("percentile", "response", "<=", 0.01, 0.5),
        ("mean", "response", "<", 0.012, 0.0),
        ("rate", "response", ">=", 0.95, 0.0),
        ("percentile", "response", "<", 1.0, 0.999),
        ("percentile", "service", "<", 0.04, 0.99),
        ("percentile", "ttfb", "<", pytest.approx(0.00025), 0.9),
    ]
    (rate,) = parse_slo("rate>200/s")
    assert (rate.bound, rate.absolute) == (200.0, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no condition"),
        ("p99<50ms,", "no condition"),
        ("p99", "no condition"),
        ("p99=50ms", "no condition"),
        ("p99<1.2.3ms", "no number"),
        ("p99<50", "unit"),
        ("p99<50min", "unit"),
        ("p99<0ms", "above 0"),
        ("p99>50ms", "bounded from above"),
        ("p0<1s", "no percentile"),
        ("p100<1s", "no percentile"),
        ("p<1s", "no figure"),
        ("max<1s", "no figure"),
        ("server:p99<1s", "clocks are response, service, ttfb"),
        ("ttfb:errors<1%", "no clock"),
        ("errors<1", "unit"),
        ("errors>1%", "can only be"),
        ("errors<0%", "nothing can meet"),
        ("errors<200%", "at most 100%"),
        ("rate<95%", "can only be"),
        ("rate>=95", "unit"),
        ("rate>100%", "nothing can meet"),
        ("p99<50ms,p99<40ms", "another condition"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse_slo(text)
