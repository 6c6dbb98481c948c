"""Who gets the device, and what is done with it, without any device."""

import threading
from collections.abc import Callable, Sequence

import pytest
from dlmodels.spec import ModelSpec
from dlserve.messages import Item, Job
from dlserve.worker.agenda import Agenda
from dlserve.worker.service import Service
from dlserve.worker.task import Task, make_task

from tests.server.worker.conftest import Roomy

SERVICE = Service(1, ModelSpec("model", "test"))


class Nobody:
    """A front end that does not listen."""

    def send(self, *frames: bytes) -> None:
        pass


def task(arrival: int, deadline: float | None = None) -> Task:
    """A task that is ready."""
    job = Job(arrival, 1, (Item("bytes", 0, "0"),), None, None, 5, 0.0, 0.0, deadline=deadline)
    return make_task(job, Nobody(), SERVICE, memoryview(b""), 0.0, arrival)


class Record:
    """An agenda that notes what is run; `looks` are the answers to whether everything is answered."""

    def __init__(self, *looks: bool, batch_wait_s: float = 0.0) -> None:
        self.ran: list[object] = []
        self.looks = list(looks)
        self.room = Roomy()
        self.now = 0.0
        self.agenda = Agenda(
            64,
            self.room,
            self.run,
            self.expire,
            self.all_answered,
            batch_wait_s=batch_wait_s,
            clock=lambda: self.now,
        )

    def run(self, tasks: Sequence[Task]) -> None:
        """Note a batch."""
        self.ran.append([one.arrival for one in tasks])

    def expire(self, tasks: Sequence[Task]) -> None:
        """Note tasks that came too late."""
        self.ran.append({one.arrival for one in tasks})

    def all_answered(self) -> bool:
        """The next look's answer."""
        return self.looks.pop(0)

    def step(self) -> bool:
        """What the device thread does once; False when there is nothing more."""
        work = self.agenda.next()
        if work is None:
            return False
        work()
        self.agenda.give_back()
        return True


def test_chores_come_before_batches() -> None:
    record = Record()
    record.agenda.add(task(0))
    record.agenda.add_chore(lambda: record.ran.append("chore"))
    record.agenda.add(task(1))
    assert record.step()
    assert record.step()
    assert record.ran == ["chore", [0, 1]]


def test_a_waiting_task_can_be_dropped_and_a_running_one_cannot() -> None:
    record = Record()
    waiting, running = task(0), task(1)
    record.agenda.add(waiting)
    assert record.agenda.drop(waiting)
    record.agenda.add(running)
    work = record.agenda.next()
    assert work is not None
    assert not record.agenda.drop(running)
    work()
    assert record.ran == [[1]]


def test_a_task_dropped_before_it_was_ready_is_never_run() -> None:
    record = Record()
    early = task(0)
    assert record.agenda.drop(early)
    record.agenda.add(early)
    record.agenda.add(task(1))
    record.step()
    assert record.ran == [[1]]


def test_a_task_that_its_batch_was_not_ready_for_waits_again_and_can_be_dropped_again() -> None:
    record = Record()
    again, other = task(0), task(1)
    record.agenda.add(again)
    assert record.step()
    record.agenda.add(again)
    record.agenda.add(other)
    assert record.agenda.drop(again)
    assert record.step()
    assert record.ran == [[0], [1]]


@pytest.mark.parametrize("ahead", ["task", "chore", "runner"])
def test_the_device_is_taken_out_of_turn_only_if_nothing_is_ahead(ahead: str) -> None:
    record = Record()
    if ahead == "task":
        record.agenda.add(task(0))
    elif ahead == "chore":
        record.agenda.add_chore(lambda: None)
    else:
        assert record.agenda.take_if_idle()
    assert not record.agenda.take_if_idle()
    if ahead == "runner":
        record.agenda.give_back()
    else:
        record.step()
    assert record.agenda.take_if_idle()


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start a call in a thread; its result will be in the list."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    return thread, results


@pytest.mark.parametrize("wake", ["task", "chore", "give_back", "pastime given back", "end"])
def test_a_waiting_device_thread_wakes_for_anything_new(wake: str) -> None:
    record = Record()
    if wake == "give_back":
        assert record.agenda.take_if_idle()
        record.agenda.add(task(0))
    elif wake == "pastime given back":
        assert record.agenda.take_if_idle()
        record.agenda.add_pastime(lambda: record.ran.append([0]))
    thread, results = in_thread(record.step)
    if wake == "task":
        record.agenda.add(task(0))
    elif wake == "chore":
        record.agenda.add_chore(lambda: record.ran.append([0]))
    elif "give" in wake:
        record.agenda.give_back()
    else:
        record.agenda.end()
    thread.join(30)
    assert results == [wake != "end"]
    assert record.ran == ([] if wake == "end" else [[0]])


def test_a_drain_ends_after_two_quiet_looks_in_a_row_and_not_before() -> None:
    record = Record(False, True, False, True, True, False)
    record.agenda.drain()
    assert not record.step()
    assert record.looks == [False]


def test_a_drain_runs_what_is_there_first() -> None:
    record = Record(True, True)
    record.agenda.add(task(0))
    record.agenda.drain()
    assert record.step()
    assert not record.step()
    assert record.ran == [[0]]


def test_a_drain_does_not_end_while_the_device_is_taken() -> None:
    record = Record(True, True)
    assert record.agenda.take_if_idle()
    record.agenda.drain()
    thread, results = in_thread(record.step)
    assert record.looks == [True, True]
    assert results == []
    record.agenda.give_back()
    thread.join(30)
    assert results == [False]


def test_a_pastime_is_for_when_nothing_else_is_to_do() -> None:
    record = Record()
    record.agenda.add_pastime(lambda: record.ran.append("pastime"))
    record.agenda.add(task(0))
    record.agenda.add_chore(lambda: record.ran.append("chore"))
    for _ in range(3):
        assert record.step()
    assert record.ran == ["chore", [0], "pastime"]


def test_a_drain_drops_pastimes() -> None:
    record = Record(True, True)
    record.agenda.drain()
    record.agenda.add_pastime(lambda: record.ran.append("pastime"))
    assert not record.step()
    assert record.ran == []


def test_the_device_thread_sleeps_until_there_is_room_and_wakes_by_itself() -> None:
    record = Record()
    record.room.waits_s = {SERVICE.number: 0.001}
    record.agenda.add(task(0))
    looks: list[float] = []

    def room_at_the_third_look(model: int) -> float:
        looks.append(model)
        return 0.001 if len(looks) < 3 else 0.0

    record.room.wait_s = room_at_the_third_look  # type: ignore[method-assign]  # the clock's part is played here
    assert record.step()
    assert record.ran == [[0]]
    assert len(looks) == 3


def test_what_comes_too_late_is_answered_so_and_never_run() -> None:
    record = Record()
    late = task(0, deadline=0.5)
    for one in (late, task(1, deadline=1.5), task(2)):
        record.agenda.add(one)
    record.now = 1.0
    assert record.step()
    assert not record.agenda.drop(late), "it has its answer"
    assert record.step()
    assert record.ran == [{0}, [1, 2]]
