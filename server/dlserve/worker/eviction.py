"""Who leaves when a tier has no room: pure policies over what is known of each model. No I/O, no clock.

`value` lets the model go whose bytes are worth least: requests per second x seconds to bring it back / bytes, the load
seconds per second that a byte of it saves. `lru` lets the least recently used go. How long a model stays whatever its
value is, is `residence_s`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dlserve.eviction import Eviction

RESIDENCE_FACTOR = 1.0
"""A model that was loaded for a request stays this many times what its load took: it has then been of use as long as it
was waited for."""
MOST_RESIDENCE_S = 5.0
"""But never longer than this: so long, at most, does the load that is next in line wait for room."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model in a tier, and what is known of it."""

    service: int
    bytes: int
    rate: float
    """Requests per second, lately."""
    reload_s: float
    """What its next request would wait for if it left."""
    last_used: float
    """When, on the clock of whoever asks."""


Rank = Callable[[Candidate], tuple[float, ...]]


def _value(candidate: Candidate) -> tuple[float, ...]:
    return candidate.rate * candidate.reload_s / max(candidate.bytes, 1), candidate.last_used


def _recency(candidate: Candidate) -> tuple[float, ...]:
    return (candidate.last_used,)


def rank_of(policy: Eviction) -> Rank:
    """The policy's order: the lowest rank leaves first."""
    return _value if policy == "value" else _recency


def victims(candidates: Iterable[Candidate], needed_bytes: int, rank: Rank) -> list[int] | None:
    """The services that leave so that `needed_bytes` become free, in that order; None if all together are too few.

    The lowest ranks go until there is room; then those of them that the room does not need after all stay, the highest
    rank first.
    """
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(candidates, key=rank):
        if freed >= needed_bytes:
            break
        if candidate.bytes:
            chosen.append(candidate)
            freed += candidate.bytes
    if freed < needed_bytes:
        return None
    for candidate in reversed(chosen[:]):
        if freed - candidate.bytes >= needed_bytes:
            chosen.remove(candidate)
            freed -= candidate.bytes
    return [candidate.service for candidate in chosen]


def residence_s(load_s: float) -> float:
    """How long a model stays, at least, after a load that a request has waited for."""
    return min(RESIDENCE_FACTOR * load_s, MOST_RESIDENCE_S)


def room_after_s(leaving: Iterable[tuple[float, int]], needed_bytes: int) -> float | None:
    """Seconds until so many bytes can be freed, of models that may leave in (seconds, bytes); None if they never suffice."""
    freed, latest_s = 0, 0.0
    for seconds, size in sorted(leaving):
        if freed >= needed_bytes:
            break
        freed += size
        latest_s = seconds
    return latest_s if freed >= needed_bytes else None
