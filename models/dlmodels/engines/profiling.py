"""What a framework's own profiler says of some inferences: how much of the time a kernel ran, and which operators take it.

A profiler slows down what it watches, so nothing that it watches is timed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

TOP = 10
"""Operators that are named."""


@dataclass(frozen=True, slots=True)
class Profiled:
    """Of one profile."""

    kernel_busy: float | None
    """Fraction of the time in which at least one kernel ran on the GPU; None on a CPU."""
    top_operators: tuple[tuple[str, float], ...]
    """Name and fraction of all operators' own time on the device, largest first."""


def can_profile(engine: str) -> bool:
    """Whether the engine has a profiler that is used here."""
    return engine == "torch"


def profile(engine: str, run: Callable[[], None], device: str) -> Profiled:
    """Run it under the engine's profiler. The engine has been started; `can_profile` said yes."""
    if engine != "torch":
        raise ValueError(f"there is no profiler for {engine!r}")
    from dlmodels.engines.torch_profile import profile_torch  # noqa: PLC0415  it imports torch

    return profile_torch(run, device)


def busy_fraction(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Part of begin to end that is covered by at least one of the (start, end) spans."""
    covered, reached = 0.0, begin
    for start, stop in sorted(spans):
        fresh, last = max(start, reached), min(stop, end)
        if last > fresh:
            covered += last - fresh
            reached = last
    return covered / (end - begin) if end > begin else 0.0


def top_operators(own_times: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """The largest as fractions of the sum; equal ones by name."""
    whole = sum(own_times.values())
    ranked = sorted(((name, own) for name, own in own_times.items() if own > 0), key=lambda one: (-one[1], one[0]))
    return tuple((name, own / whole) for name, own in ranked[:TOP])
