"""When requests are due in an open loop: absolute times drawn before anything is sent. Pure: no I/O, no clock.

An arrival process of rate 1 (its gaps have the mean 1) is laid on a time axis whose speed is the wanted rate: the n-th
request is due when the integral of the rate from 0 reaches the sum of the first n gaps (time rescaling; Daley and Vere-Jones,
An Introduction to the Theory of Point Processes, 2003, section 7.4). So every process can have every course of the rate.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, repeat
from random import Random

from scipy.special import gammaincinv

from dlload.errors import OptionError

MOST_PER_S = 1e6
"""No client in Python comes near; a rate above it is a slip of the pen."""
MOST_REQUESTS = 5_000_000
"""Of a plan: it is kept in memory."""
_ROUNDING = 1e-12
"""So much more, relative, than a piece is expected to hold still belongs to it: 0.29 s at 100/s are 29 requests."""
LEAST_STATE_S = 0.001
"""Mean of a state of an MMPP; below it the process is as good as Poisson."""
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
        """After how many seconds so many are expected (at most `requests` of the piece)."""
        if self.first == self.last:
            return requests / self.first
        slope = (self.last - self.first) / self.seconds
        # the root of slope/2 * t**2 + first * t = requests, in the form that stays exact for small slopes
        return 2 * requests / (self.first + math.sqrt(max(0.0, self.first**2 + 2 * slope * requests)))


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
        passed_s = 0.0
        for piece in self.pieces:
            left = seconds - passed_s
            passed_s += piece.seconds
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


def rescaled(pieces: Iterable[Piece], times: Iterable[float]) -> Iterator[float]:
    """Ascending times of a process of rate 1 -> seconds; ends with the last piece. What is due as a piece ends is in it."""
    began_s = began = 0.0
    left = iter(pieces)
    piece = next(left, None)
    for time in times:
        while piece is not None and time > (began + piece.requests) * (1 + _ROUNDING):
            began_s, began = began_s + piece.seconds, began + piece.requests
            piece = next(left, None)
        if piece is None:
            return
        yield began_s + piece.when(max(0.0, time - began))


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
            f"--rate {given}: {text!r} is no number of {what} above 0 and up to {MOST_PER_S:,.0f}; "
            "write 200, 10:200:10 (steps) or 10..200/60 (a ramp)"
        )
    return rate


def read_gaps(text: str, random: Random) -> Iterator[float]:
    """What `--arrivals` says: gaps with the mean 1, without an end. Raises OptionError at the first.

    `poisson`: exponential gaps. `constant`: all 1. `gamma:CV`: gamma distributed with that coefficient of variation, by the
    inverse of its distribution. `burst:N`: nothing for N, then N at once. `mmpp:RATIO:BUSY_S:CALM_S` is no process of gaps
    alone, and read by `read_mmpp`.
    """
    kind, _, rest = text.partition(":")
    if text == "poisson":
        return _poisson(random)
    if text == "constant":
        return cycle((1.0,))
    if kind == "gamma":
        return _gamma(_positive(rest, text, "coefficient of variation"), random)
    if kind == "burst":
        if not rest.isdecimal() or not 1 <= int(rest[:20]) <= MOST_REQUESTS:
            raise OptionError(
                f"--arrivals {text}: how many come at once must be a whole number of 1 or more, up to {MOST_REQUESTS:,}"
            )
        return _bursts(int(rest))
    raise OptionError(f"--arrivals {text}: not an arrival process; {_FORMS}")


def _poisson(random: Random) -> Iterator[float]:
    while True:
        yield -math.log1p(-random.random())


def _gamma(variation: float, random: Random) -> Iterator[float]:
    shape = variation**-2
    while True:
        yield float(gammaincinv(shape, random.random())) / shape


def _bursts(size: int) -> Iterator[float]:
    while True:
        yield float(size)
        yield from repeat(0.0, size - 1)


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
    `busy_s` and `calm_s`, in seconds.
    """

    ratio: float
    busy_s: float
    calm_s: float

    def pieces(self, rate: float, random: Random) -> Iterator[Piece]:
        """A draw, without an end, of a rate whose mean is `rate`; it begins in either state by its share of the time."""
        share = self.busy_s / (self.busy_s + self.calm_s)
        calm_rate = rate / (share * self.ratio + 1 - share)
        busy = random.random() < share
        while True:
            length_s = -math.log1p(-random.random()) * (self.busy_s if busy else self.calm_s)
            now = calm_rate * self.ratio if busy else calm_rate
            yield Piece(length_s, now, now)
            busy = not busy


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
    if min(busy_s, calm_s) < LEAST_STATE_S:
        raise OptionError(f"--arrivals {text}: mean busy and calm times must be {LEAST_STATE_S:g} s or more")
    return Mmpp(ratio, busy_s, calm_s)


def due_times(
    course: Course, arrivals: str, random: Random, *, requests: int | None = None, seconds: float | None = None
) -> list[float]:
    """Seconds from the start at which requests are due, in ascending order, to the microsecond.

    Ends with the course, after `requests` or after `seconds`, whichever is first; one of them must end it.
    Raises OptionError.
    """
    length_s = min(course.seconds, math.inf if seconds is None else seconds)
    if math.isinf(length_s) and requests is None:
        raise OptionError("an open loop needs an end: give --requests or --duration")
    pieces: Iterable[Piece] = course.pieces if math.isinf(length_s) else course.cut(length_s).pieces
    mmpp = read_mmpp(arrivals)
    if mmpp is not None:
        first = course.pieces[0]
        if len(course.pieces) != 1 or first.first != first.last:
            raise OptionError(f"--arrivals {arrivals} makes its own course of the rate: give --rate as one number")
        pieces = mmpp.pieces(first.first, random)
    gaps = _poisson(random) if mmpp is not None else read_gaps(arrivals, random)
    return _ended(rescaled(pieces, _sums(gaps)), requests, length_s)


def _ended(times_s: Iterator[float], requests: int | None, seconds: float) -> list[float]:
    """Rounded to microseconds. Raises OptionError where they would not end in a plan of a size that can be kept."""
    due: list[float] = []
    for time_s in times_s:
        if len(due) == requests or time_s > seconds * (1 + _ROUNDING):
            break
        if len(due) == MOST_REQUESTS:
            raise OptionError(
                f"more than {MOST_REQUESTS:,} requests a phase are too many to plan; "
                "ask for fewer --requests, a shorter --duration or a lower --rate"
            )
        due.append(round(time_s, 6))
    return due


def _sums(gaps: Iterator[float]) -> Iterator[float]:
    """Running sums; the first gap is before the first request."""
    total, error = 0.0, 0.0
    for gap in gaps:  # Kahan: a long plan must not drift
        adjusted = gap - error
        summed = total + adjusted
        error = (summed - total) - adjusted
        total = summed
        yield total


def looped(gaps_us: Sequence[int], *, requests: int | None = None, seconds: float | None = None) -> list[float]:
    """Due times from gaps in microseconds, taken again from the first when they are used up (as perf_analyzer does).

    Raises OptionError.
    """
    return _ended(
        (at_us / 1e6 for at_us in accumulate(cycle(gaps_us))), requests, math.inf if seconds is None else seconds
    )


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
