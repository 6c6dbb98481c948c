"""What a simulation is asked, and what it answers: plain data, JSON outside."""

from typing import Annotated

import msgspec
from dlmodels.engines.base import Temperature

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Arrival(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request of one image."""

    due_s: Seconds
    """Since the clock began."""
    service: str


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Standard input of the command."""

    options: tuple[str, ...]
    """Of `dlserve`, as on its command line: --models-dir, --workers, --cache-mb, --balance and the rest, with its defaults."""
    arrivals: tuple[Arrival, ...]
    """In the order of their due times."""
    warm_up: tuple[str, ...] | None = None
    """Services, run before the clock begins in this order and as the stream load tester has it: where all their weights fit into
    a worker's budget, each by every worker; else each twice, by whichever worker is chosen. None: all, in the order of names."""
    overhead_s: Seconds = 0.0
    """What a request takes beside queue, load and forward: half of it on the way there, half on the way back."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    """In place of the models' own."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None
    """Of the models' draws, in place of their own."""


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of an arrival. Seconds."""

    latency_s: float
    """From due to answered."""
    load_s: float
    """That its batch took to get the weights."""
    forward_s: float
    """Of the batch."""
    cache: Temperature
    """The coldest in which it found the weights, as a reply of the server says it."""
    worker: int
    batch_size: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Standard output of the command."""

    answers: tuple[Answer | None, ...]
    """In the order of the arrivals; None: turned away, every queue was full."""
    loads: int
    """Since the clock began, prefetches included."""
    evictions: int
    busy_s: tuple[float, ...]
    """By worker, since the clock began: loading and running."""
    ended_s: float
    """When the last answer came."""
    expected_load_s: dict[str, float] = {}
    """By service: what a load from disk had come to be expected to take."""
