"""What a result of `make bench` says, in a sentence. Pure functions."""

import statistics

from dlclient.serving_result import Ratio, Serving


def middle(ratio: Ratio) -> float | None:
    """Median over the rounds; None where there are none."""
    return statistics.median(ratio.values) if ratio.values else None


def meets(ratio: Ratio) -> bool | None:
    """Whether the median is what was asked for; None: nothing was, or nothing was measured."""
    found = middle(ratio)
    if found is None or ratio.wanted is None:
        return None
    return (ratio.at_least is None or found >= ratio.at_least) and (ratio.at_most is None or found <= ratio.at_most)


def goal(ratio: Ratio) -> str:
    """What was asked for, in words."""
    if ratio.at_least is not None:
        return f"at least {ratio.at_least:g}"
    return "" if ratio.at_most is None else f"at most {ratio.at_most:g}"


def answer(result: Serving) -> str:
    """How many goals are met."""
    judged = [found for ratio in result.ratios if (found := meets(ratio)) is not None]
    failed = sum(bool(one.failure) for one in result.measured)
    told = f"{result.title}: {sum(judged)} of {len(judged)} goals met"
    return f"{told}, {failed} targets without figures" if failed else told
