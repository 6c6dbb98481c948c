"""When requests are due in an open loop: absolute times drawn before anything is sent. Pure: no I/O, no clock.

An arrival process of rate 1 (its gaps have the mean 1) is laid on a time axis whose speed is the wanted rate: the n-th
request is due when the integral of the rate from 0 reaches the sum of the first n gaps (time rescaling; Daley and Vere-Jones,
An Introduction to the Theory of Point Processes, 2003, section 7.4). So every process can have every course of the rate.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random

from scipy.special import gammaincinv

from dlload.errors import OptionError

MOST_PER_S = 1e6
"""No client in Python comes near; a rate above it is a slip of the pen."""
_FORMS = "use poisson, constant, gamma:CV such as gamma:2, burst:N such as burst:8, or mmpp:RATIO:BUSY_S:CALM_S such as mmpp:10:1:4"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time in which the rate changes linearly, in requests per second. `seconds` may be infinite."""

    seconds: float
    first: float
    last: float

    @property
    def requests(self) -> float:
        """How many are expected in it."""
        return self.seconds * (self.first + self.last) / 2

    def when(self, requests: float) -> float:
        """After how many seconds so many are expected (fewer than `requests` of the piece)."""
        if self.first == self.last:
            return requests / self.first
        slope = (self.last - self.first) / self.seconds
        # the root of slope/2 * t**2 + first * t = requests, in the form that stays exact for small slopes
        return 2 * requests / (self.first + math.sqrt(self.first**2 + 2 * slope * requests))


@dataclass(frozen=True, slots=True)
class Course:
    """How the rate goes on, piece by piece. The last piece of a course without an end is infinite."""

    pieces: tuple[Piece, ...]

    @property
    def seconds(self) -> float:
        """Infinite where it has no end."""
        return math.fsum(piece.seconds for piece in self.pieces)

    def cut(self, seconds: float) -> "Course":
        """The first seconds of it."""
        kept: list[Piece] = []
        for piece in self.pieces:
            left = seconds - math.fsum(one.seconds for one in kept)
            if left <= 0:
                break
            if piece.seconds <= left:
                kept.append(piece)
                continue
            last = (
                piece.first
                if math.isinf(piece.seconds)
                else piece.first + (piece.last - piece.first) * left / piece.seconds
            )
            kept.append(Piece(left, piece.first, last))
        return Course(tuple(kept))

    def rescaled(self, times: Iterator[float]) -> Iterator[float]:
        """Ascending times of a process of rate 1 -> seconds; ends with the course."""
        began_s = began = 0.0
        pieces = iter(self.pieces)
        piece = next(pieces, None)
        for time in times:
            while piece is not None and time >= began + piece.requests:
                began_s, began = began_s + piece.seconds, began + piece.requests
                piece = next(pieces, None)
            if piece is None:
                return
            yield began_s + piece.when(time - began)


def read_course(text: str, step_s: float) -> Course:
    """What `--rate` says: "200", a staircase "10:200:10" with `step_s` seconds a step, or a ramp "10..200/60".

    Raises OptionError.
    """
    if ".." in text:
        ends, slash, seconds = text.partition("/")
        first, _, last = ends.partition("..")
        if not slash:
            raise OptionError(f"--rate {text}: a ramp needs its length, such as {text}/60 for 60 s")
        return Course((Piece(_rate(seconds, text, "seconds"), _rate(first, text), _rate(last, text)),))
    if ":" not in text:
        rate = _rate(text, text)
        return Course((Piece(math.inf, rate, rate),))
    parts = text.split(":")
    if len(parts) != 3:
        raise OptionError(f"--rate {text}: a staircase is FIRST:LAST:STEP, such as 10:200:10")
    first_rate, last_rate, step = (_rate(part, text) for part in parts)
    if last_rate < first_rate:
        step = -step
    count = math.floor((last_rate - first_rate) / step + 1e-9) + 1
    if count > 1000:
        raise OptionError(f"--rate {text}: {count} steps; take a larger STEP")
    rates = [first_rate + number * step for number in range(count)]
    return Course(tuple(Piece(step_s, rate, rate) for rate in rates))


def _rate(text: str, given: str, what: str = "requests per second") -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MOST_PER_S:
        raise OptionError(
            f"--rate {given}: {text!r} is no number of {what} above 0; write 200, 10:200:10 (steps) or 10..200/60 (a ramp)"
        )
    return rate


def read_gaps(text: str, random: Random) -> Iterator[float]:
    """What `--arrivals` says: gaps with the mean 1, without an end. Raises OptionError at the first.

    `poisson`: exponential gaps. `constant`: all 1. `gamma:CV`: gamma distributed with that coefficient of variation, by the
    inverse of its distribution. `burst:N`: N at once, then nothing for N. `mmpp:RATIO:BUSY_S:CALM_S`: see `mmpp`, whose
    seconds are in units of the mean gap here, so it needs the rate: `read_gaps` does not take it.
    """
    kind, _, rest = text.partition(":")
    if text == "poisson":
        return _poisson(random)
    if text == "constant":
        return cycle((1.0,))
    if kind == "gamma":
        return _gamma(_positive(rest, text, "coefficient of variation"), random)
    if kind == "burst":
        if not rest.isdecimal() or int(rest) < 1:
            raise OptionError(f"--arrivals {text}: how many come at once must be a whole number of 1 or more")
        return cycle((float(rest), *(0.0 for _ in range(int(rest) - 1))))
    raise OptionError(f"--arrivals {text}: not an arrival process; {_FORMS}")


def _poisson(random: Random) -> Iterator[float]:
    while True:
        yield -math.log1p(-random.random())


def _gamma(variation: float, random: Random) -> Iterator[float]:
    shape = variation**-2
    while True:
        yield float(gammaincinv(shape, random.random())) / shape


def _positive(text: str, given: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1e6:
        raise OptionError(f"--arrivals {given}: the {what} must be a number above 0, not {text!r}")
    return number


@dataclass(frozen=True, slots=True)
class Mmpp:
    """A Markov-modulated Poisson process of two states (Fischer and Meier-Hellstern, Performance Evaluation 18, 1993).

    While busy its rate is `ratio` times that while calm; both states last exponentially distributed times with means
    `busy_s` and `calm_s` (seconds at the mean rate). The mean rate over both is 1.
    """

    ratio: float
    busy_s: float
    calm_s: float

    def course(self, rate: float, seconds: float, random: Random) -> Course:
        """A draw of the rate over that many seconds, whose mean is `rate`; it begins in either state by its share."""
        share = self.busy_s / (self.busy_s + self.calm_s)
        calm_rate = rate / (share * self.ratio + 1 - share)
        busy = random.random() < share
        pieces: list[Piece] = []
        drawn_s = 0.0
        while drawn_s < seconds:
            length_s = -math.log1p(-random.random()) * (self.busy_s if busy else self.calm_s)
            now = calm_rate * self.ratio if busy else calm_rate
            pieces.append(Piece(length_s, now, now))
            drawn_s += length_s
            busy = not busy
        return Course(tuple(pieces)).cut(seconds)


def read_mmpp(text: str) -> Mmpp | None:
    """What `--arrivals mmpp:RATIO:BUSY_S:CALM_S` says; None where it is something else. Raises OptionError."""
    kind, *parts = text.split(":")
    if kind != "mmpp":
        return None
    if len(parts) != 3:
        raise OptionError(f"--arrivals {text}: write mmpp:RATIO:BUSY_S:CALM_S, such as mmpp:10:1:4")
    ratio, busy_s, calm_s = (
        _positive(part, text, what)
        for part, what in zip(parts, ("ratio of the rates", "mean busy time", "mean calm time"), strict=True)
    )
    return Mmpp(ratio, busy_s, calm_s)


def due_times(
    course: Course, arrivals: str, random: Random, *, requests: int | None = None, seconds: float | None = None
) -> list[float]:
    """Seconds from the start at which requests are due, in ascending order, to the microsecond.

    Ends with the course, after `requests` or before `seconds`, whichever is first; one of them must end it.
    Raises OptionError.
    """
    length_s = min(course.seconds, math.inf if seconds is None else seconds)
    if math.isinf(length_s) and requests is None:
        raise OptionError("an open loop needs an end: give --requests or --duration")
    if not math.isinf(length_s):
        course = course.cut(length_s)
    mmpp = read_mmpp(arrivals)
    if mmpp is not None:
        if len(course.pieces) != 1 or course.pieces[0].first != course.pieces[0].last:
            raise OptionError(f"--arrivals {arrivals} makes its own course of the rate: give --rate as one number")
        rate = course.pieces[0].first
        if math.isinf(length_s):
            assert requests is not None
            length_s = 20 * requests / rate + 20 * (mmpp.busy_s + mmpp.calm_s)  # longer than any draw that matters
        course = mmpp.course(rate, length_s, random)
    gaps = _poisson(random) if mmpp is not None else read_gaps(arrivals, random)
    due: list[float] = []
    for time_s in course.rescaled(_sums(gaps)):
        if len(due) == requests:
            break
        due.append(round(time_s, 6))
    return due


def _sums(gaps: Iterator[float]) -> Iterator[float]:
    """Running sums; the first gap is before the first request, except that bursts begin at once."""
    total, error = 0.0, 0.0
    for gap in gaps:  # Kahan: a long plan must not drift
        adjusted = gap - error
        summed = total + adjusted
        error = (summed - total) - adjusted
        total = summed
        yield total


def looped(gaps_us: Sequence[int], *, requests: int | None = None, seconds: float | None = None) -> list[float]:
    """Due times from gaps in microseconds, taken again from the first when they are used up (as perf_analyzer does)."""
    due: list[float] = []
    at_us = 0
    for gap in cycle(gaps_us):
        at_us += gap
        if len(due) == requests or (seconds is not None and at_us >= seconds * 1e6):
            return due
        due.append(at_us / 1e6)
    return due


def read_intervals(content: bytes, name: str) -> tuple[int, ...]:
    """The gaps of an `--intervals` file: whole microseconds, one a line. Raises OptionError."""
    gaps: list[int] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal():
            raise OptionError(f"--intervals {name}:{number}: {text[:40]!r} is no whole number of microseconds")
        gaps.append(int(text))
    if not gaps or not any(gaps):
        raise OptionError(f"--intervals {name}: no gap above 0 in it; write whole microseconds, one a line")
    return tuple(gaps)
