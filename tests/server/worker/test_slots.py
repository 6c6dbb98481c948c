"""Bodies that a front end leaves in shared memory, through a real worker."""

import os
from collections.abc import Iterator

import msgspec
import pytest
from dlserve import slots
from dlserve.slots import NOWHERE, SLOTS, Lender

from tests.server.worker.conftest import Front, StartWorker, WorkerProcess


class Shared:
    """A worker whose front end shares memory with it."""

    def __init__(self, worker: WorkerProcess, lender: Lender) -> None:
        self.worker = worker
        self.lender = lender
        self.front: Front = worker.start()

    def send(self, service: int, body: bytes, place: int | None = None) -> tuple[int, int]:
        """A job whose body is in a slot, or said to be; its number and the slot."""
        job, _ = self.front.call(service, body)
        if place is None:
            place = self.lender.lend([body])
            assert place != NOWHERE
        self.front.send((msgspec.structs.replace(job, place=place), b""))
        return job.id, place

    def overwrite(self, place: int, body: bytes) -> None:
        """Give the slot to another body, as once its job is answered."""
        self.lender.take_back(place)
        assert self.lender.lend([body]) == place


@pytest.fixture
def shared(start_worker: StartWorker) -> Iterator[Shared]:
    descriptor = slots.make()
    yield Shared(start_worker(body_fds=[descriptor]), Lender(descriptor))
    os.close(descriptor)


def test_a_body_in_a_slot_is_answered_as_one_in_a_frame(shared: Shared) -> None:
    front = shared.front
    front.define(1, bytes=10)
    for body in map(os.urandom, (5_000, 60_000, 200_000, 5_001)):  # the first finds it cold, the next ones are quick
        in_frame = front.predict(1, body)
        job, place = shared.send(1, body)
        assert front.reply(job).predictions == in_frame.predictions
        shared.lender.take_back(place)


def test_jobs_that_come_together_are_each_answered_by_their_own_body(shared: Shared) -> None:
    front = shared.front
    front.define(1, bytes=10)
    bodies = [os.urandom(6_000 + number) for number in range(40)]
    expected = [front.predict(1, body).predictions for body in bodies]
    for _ in range(5):
        asked = [shared.send(1, body) for body in bodies]
        assert [front.reply(job).predictions for job, _ in asked] == expected
        for _, place in asked:
            shared.lender.take_back(place)


@pytest.mark.parametrize("cold", [True, False])
def test_a_job_that_must_wait_has_a_copy(shared: Shared, cold: bool) -> None:
    front = shared.front
    one, two = os.urandom(8_000), os.urandom(8_000)
    front.define(1, bytes=10, forward_s=0.2)
    front.define(2, bytes=10)
    if not cold:
        front.predict(2, b"x")  # its skeleton is there, and it was quick
    front.predict(1, b"x")
    (running,) = front.send(front.call(1, b"x"))
    job, place = shared.send(2, one)
    front.prepare(1, load=False)  # messages are taken in their order: the job has been, too
    shared.overwrite(place, two)
    front.reply(running)
    assert front.reply(job).predictions == front.predict(2, one).predictions != front.predict(2, two).predictions


@pytest.mark.parametrize("memory", [True, False])
def test_a_body_that_is_nowhere_ends_the_connection_and_not_the_worker(start_worker: StartWorker, memory: bool) -> None:
    descriptor = slots.make()
    shared = Shared(start_worker(**({"body_fds": [descriptor]} if memory else {})), Lender(descriptor))
    os.close(descriptor)
    shared.front.define(1, bytes=10)
    shared.send(1, b"x" * 5_000, SLOTS)
    shared.front.read_to_end()
    again = shared.worker.accept()
    again.define(1, bytes=10)
    assert again.predict(1, b"x").cache == "disk"
