"""What a result of `make bench` says, in a sentence. Pure."""

from dlclient.serving_result import Serving


def answer(result: Serving) -> str:
    """How many goals are met."""
    judged = [ratio.met for ratio in result.ratios if ratio.met is not None]
    failed = sum(bool(one.failure) for one in result.measured)
    told = f"{result.title}: {sum(judged)} of {len(judged)} goals met"
    return f"{told}, {failed} targets without figures" if failed else told
