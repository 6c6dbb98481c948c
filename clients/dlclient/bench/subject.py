"""What a point measures: a model in this process, or one behind a server. The same code times both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dlclient.bench_result import Load, Scope


@dataclass(frozen=True, slots=True)
class Told:
    """Of one inference, by the subject itself: the server's own times, the error of a call that failed."""

    server_s: float | None = None
    transform_s: float | None = None
    error: str = ""
    took_s: float | None = None
    """A tighter clock's, where the subject has one: a client's, from sending to the whole answer. None: `infer` itself is timed."""


class Subject(Protocol):
    """A model that answers batches. From `open` on it is ready; every `infer` returns when its answers are complete."""

    scope: Scope
    """What a clock around `infer` times."""
    simulated: bool

    def start(self) -> None:
        """Import the framework and wake the device, or reach the server. Raises PointError."""

    def open(self) -> Load:
        """Prepare and load the model, without a first inference. Raises PointError."""

    def reopen(self) -> float:
        """Unload and load again, skeleton kept; the seconds that the load took. Raises PointError."""

    def inputs(self, batch_size: int, number: int) -> Sequence[object]:
        """`number` different batches, made ready outside the clock; each is what `infer` takes."""

    def infer(self, batch: object) -> Told:
        """Infer a batch, from any thread where `most_in_flight` is above 1. Raises PointError."""

    @property
    def most_in_flight(self) -> int:
        """How many `infer` may run at a time."""

    @property
    def read_back(self) -> Mapping[str, str | int | float | bool | None]:
        """Settings as they really are, once open."""

    @property
    def weights_bytes(self) -> int | None:
        """Of the model, once open."""

    def classes(self, batch: object) -> Sequence[Sequence[tuple[int, float]]]:
        """Of each image the five likeliest classes and their probabilities, likeliest first. Raises PointError."""

    def close(self) -> None:
        """Give everything back. Harmless when not open."""
