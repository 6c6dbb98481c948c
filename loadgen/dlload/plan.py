"""What is sent, in which order and when: drawn from seeds before anything is sent. Pure: no I/O, no clock.

The same header gives the same plan, byte for byte: all randomness is `random.Random.random`, whose sequence Python promises
to keep, and times are rounded to microseconds. Four generators, as MLPerf LoadGen has them, for the schedule, the models, the
images and the think times; each is seeded with the first 8 bytes, big-endian, of SHA-256("dlserve-plan/2:<seed>:<purpose>").
So another mix sends the same images in the same order and at the same times, and another rate goes to the same models.
"""

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from dlclient.results import PLAN_SCHEMA, PlanHeader, Seeds, Slot

from dlload.arrivals import MOST_REQUESTS, Course, due_times, looped
from dlload.errors import OptionError
from dlload.mixes import read_mix

DEFAULT_REQUESTS = 500
CLOSED = "closed"
"""The load of a header whose slots have no due times."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of every phase, and what they were drawn from."""

    header: PlanHeader
    slots: tuple[Slot, ...]

    @property
    def is_open(self) -> bool:
        """Whether requests are sent when they are due, and not when a user is free."""
        return self.header.load != CLOSED

    @property
    def offered_per_s(self) -> float | None:
        """Requests per second of the schedule; None in a closed loop, and where all is due at once."""
        last_s = self.slots[-1].due_s if self.slots else None
        return len(self.slots) / last_s if last_s else None

    def encode(self) -> bytes:
        """The content of plan.jsonl."""
        encoder = msgspec.json.Encoder()
        return b"".join(encoder.encode(line) + b"\n" for line in (self.header, *self.slots))

    def sha256(self) -> str:
        """Digest of plan.jsonl."""
        return hashlib.sha256(self.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Closed:
    """Each user sends its next request when its last one is answered, after `think_s` on average.

    `think`: "none", "constant" or "exponential".
    """

    requests: int
    think: str = "none"
    think_s: float = 0.0

    @property
    def name(self) -> str:
        """As the header has it."""
        return CLOSED

    def think_times(self, draws: random.Random) -> Iterator[float]:
        """Seconds between an answer and the next request, without an end."""
        while True:
            draw = draws.random()
            yield round(-math.log1p(-draw) * self.think_s, 6) if self.think == "exponential" else self.think_s


@dataclass(frozen=True, slots=True)
class Open:
    """Requests are due by one schedule, whatever becomes of the ones before."""

    course: Course
    arrivals: str = "poisson"
    requests: int | None = None
    duration_s: float | None = None
    name: str = "open"
    """As the header has it; says the rate too."""

    def due(self, draws: random.Random) -> list[float]:
        """Seconds from the start."""
        return due_times(self.course, self.arrivals, draws, requests=self.requests, seconds=self.duration_s)


@dataclass(frozen=True, slots=True)
class Intervals:
    """An open loop with given gaps in microseconds, looped."""

    gaps_us: tuple[int, ...]
    requests: int | None = None
    duration_s: float | None = None
    name: str = "intervals"

    def due(self, _: random.Random) -> list[float]:
        """Seconds from the start."""
        return looped(self.gaps_us, requests=self.requests, seconds=self.duration_s)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """All requests are due at the start: MLPerf's Offline."""

    requests: int

    @property
    def name(self) -> str:
        """As the header has it."""
        return "at once"

    def due(self, _: random.Random) -> list[float]:
        """All 0."""
        return [0.0] * self.requests


Load = Closed | Open | Intervals | AtOnce


def draw(
    *, seeds: Seeds, load: Load, services: Sequence[str], mix: str, images: Sequence[str], batch_size: int
) -> Plan:
    """For each request a model by the mix, `batch_size` images, each any of `images` with equal chance, and its time.

    Raises OptionError.
    """
    if batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: a request needs at least one image")
    drawn_mix = read_mix(mix, services)
    due: Iterable[float | None]
    if load.requests is not None and load.requests > MOST_REQUESTS:
        raise OptionError(f"--requests {load.requests}: too many to plan; at most {MOST_REQUESTS:,} a phase")
    if isinstance(load, Closed):
        count, due = load.requests, (None for _ in range(load.requests))
        thinks = load.think_times(_generator(seeds.think, "think"))
    else:
        due = load.due(_generator(seeds.schedule, "schedule"))
        count, thinks = len(due), iter(lambda: 0.0, None)
    if count < 1:
        raise OptionError(
            "a phase needs at least one request; ask for more --requests, a longer --duration or a higher --rate"
        )
    chooser = drawn_mix.chooser(count)
    models = _generator(seeds.models, "models")
    pictures = picture_draws(seeds)
    slots = tuple(
        Slot(
            index=index,
            model=chooser.choose(index, models.random()),
            images=tuple(images[int(pictures.random() * len(images))] for _ in range(batch_size)),
            due_s=at,
            think_s=think,
        )
        for index, (at, think) in enumerate(zip(due, thinks, strict=False))
    )
    header = PlanHeader(
        schema=PLAN_SCHEMA,
        seeds=seeds,
        requests=count,
        services=drawn_mix.asked,
        mix=mix,
        images=tuple(images),
        batch_size=batch_size,
        load=load.name,
    )
    return Plan(header, slots)


def faster(plan: Plan, speed: float) -> Plan:
    """The same plan with all its times divided by `speed`; at 1 it is the same, byte for byte."""
    if speed == 1:
        return plan
    slots = tuple(
        msgspec.structs.replace(
            slot,
            due_s=None if slot.due_s is None else round(slot.due_s / speed, 6),
            think_s=round(slot.think_s / speed, 6),
        )
        for slot in plan.slots
    )
    if not plan.is_open:  # what divides think times is no other load
        return Plan(plan.header, slots)
    return Plan(msgspec.structs.replace(plan.header, load=f"{plan.header.load}, {speed:g} x as fast"), slots)


def picture_draws(seeds: Seeds) -> random.Random:
    """What every plan's images are drawn with."""
    return _generator(seeds.images, "images")


def _generator(seed: int, purpose: str) -> random.Random:
    digest = hashlib.sha256(f"{PLAN_SCHEMA}:{seed}:{purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311  reproducible, not secret
