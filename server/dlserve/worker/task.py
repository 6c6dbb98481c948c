"""A job inside the worker, from its frame to its answer."""

from collections.abc import Hashable
from typing import Protocol

import msgspec
from dlmodels.engines.base import Batch, Temperature
from dlmodels.images import InputSpec

from dlserve.forward_times import ForwardTimes
from dlserve.messages import Job
from dlserve.slots import NOWHERE
from dlserve.worker.service import Service


class Sender(Protocol):
    """The way back to the front end that sent a job."""

    def send(self, *frames: bytes) -> None:
        """Send frames in this order; from any thread."""


class Task(msgspec.Struct, eq=False):
    """One job and what has been done for it. Handed from thread to thread, held by one at a time."""

    job: Job
    sender: Sender
    """Who is owed the answer."""
    service: Service
    body: memoryview
    """The items' bytes, one after the other; until `keep`, where the front end left them."""
    received: float
    """When its frame was complete."""
    arrival: int
    """Its place in the order of arrival."""
    spec: InputSpec
    """What its images become: its own, else the service's."""
    key: Hashable
    """Tasks of one key may run in one batch."""
    alone: bool
    """It asked for a colder start, so its load is its own."""
    images: int
    """Known for certain when directories have been expanded."""
    found: Temperature
    """Where the weights were when it came."""
    borrowed: bool = False
    """The body is in a slot."""
    inputs: Batch = ()
    """What the model is handed, once ready."""
    uris: tuple[str, ...] | None = None
    """One per image, where a directory was expanded."""
    unread: bool = False
    """Its inputs are read and decoded when it runs, by the thread that runs it."""
    begun: bool = False
    """Its batch runs: too late to cancel."""
    answered: bool = False
    decode_s: float = 0.0
    forget_s: float = 0.0
    """Making the page cache forget its input, where it asked for a start from disk; counted as demotion."""
    prepare_s: float = 0.0
    """Waiting for the model's skeleton, the first time that it is needed; counted as load."""

    def keep(self) -> None:
        """Have a body of its own: what is in a slot may be read only until the job is answered, and by no thread beyond that."""
        if self.borrowed:
            self.body, self.borrowed = memoryview(bytearray(self.body)), False

    @property
    def model(self) -> int:
        """The number of its service."""
        return self.service.number

    @property
    def deadline(self) -> float | None:
        """When its answer is worth nothing any more."""
        return self.job.deadline

    @property
    def forward_times(self) -> ForwardTimes:
        """Of its service."""
        return self.service.forward_times


def make_task(
    job: Job,
    sender: Sender,
    service: Service,
    body: memoryview,
    received: float,
    arrival: int,
    found: Temperature = "disk",
) -> Task:
    """A task as it arrives."""
    spec = service.spec.input if job.input is None else job.input
    return Task(
        job,
        sender,
        service,
        body,
        received,
        arrival,
        spec,
        key=(service.number, spec),
        alone=job.cache is not None and job.cache != "warm",
        images=len(job.items),
        found=found,
        borrowed=job.place != NOWHERE,
    )
