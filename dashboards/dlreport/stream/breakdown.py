"""A request's mean latency divided into the server's stages and what lies outside them. Pure functions."""

from dataclasses import dataclass

from dlclient.results import Summary

STAGES: dict[str, str] = {
    "wire": "between the front end and the worker, both ways",
    "decode": "reading the image: decoding, resizing, normalizing",
    "queue": "waiting in the worker for its device to be free",
    "load": "bringing the model's weights to the device",
    "forward": "running the model; on a CPU also the page faults of weights that are mapped, not read",
    "post": "picking the best classes and building the answer",
    "demote": "making the model as cold as the request asked: no part of serving, so taken off the latency",
}
"""The stages that dlserve tells, in the order in which a request meets them; what is no part of serving stands last."""
UNTIMED = "demote"
"""The stage that is outside the latency, so none of the parts that add up to it."""
REST = "rest"
"""The client's latency less all stages in it: HTTP, the network, the front end, and the client itself."""

_MOST_UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A stage and its mean seconds."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """`parts` in the order of time. They add up to `total_s`, the mean latency, unless the server told more than it took."""

    parts: tuple[Part, ...]
    total_s: float
    rest_s: float | None
    """None where the mean latency is not known."""


def break_down(summary: Summary) -> Breakdown | None:
    """None where the server tells no stages."""
    means = {stage: seconds for stage, seconds in (summary.stages_s or {}).items() if stage != UNTIMED}
    if not means:
        return None
    known = [Part(stage, means[stage]) for stage in STAGES if stage in means]
    unknown = sorted((stage for stage in means if stage not in STAGES), key=lambda stage: -means[stage])
    parts = [*known, *(Part(stage, means[stage]) for stage in unknown[:_MOST_UNKNOWN])]
    told_s = sum(means.values())
    others_s = told_s - sum(part.seconds for part in parts)
    if len(unknown) > _MOST_UNKNOWN:
        parts.append(Part("other", others_s))
    mean = summary.latency_s.mean
    if mean is None:
        return Breakdown(tuple(parts), told_s, None)
    if mean > told_s:
        parts.append(Part(REST, mean - told_s))
    return Breakdown(tuple(parts), max(mean, told_s), mean - told_s)
