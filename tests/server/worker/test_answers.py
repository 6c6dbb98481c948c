"""One answer per job, whoever is first."""

from collections.abc import Callable

import msgspec
import pytest
from dlmodels.errors import ImageError, LoadError, OutOfMemoryError, SettingError
from dlmodels.spec import ModelSpec
from dlserve.messages import HEADER, Failure, FailureKind, Item, Job, Reply, Stages, ToFront
from dlserve.worker.answers import Answers
from dlserve.worker.entry import CannotFitError
from dlserve.worker.failures import InputError, RequestError, kind_of
from dlserve.worker.service import Service
from dlserve.worker.task import Task, make_task


class Desk:
    """Answers that keep what they send."""

    def __init__(self) -> None:
        self.sent: list[ToFront] = []
        self.done: list[Service] = []
        self.answers = Answers(self.done.append)
        self.service = Service(1, ModelSpec("model", "test"))

    def send(self, *frames: bytes) -> None:
        """Decode what the connection would be given."""
        self.sent += [msgspec.msgpack.decode(data[HEADER.size :], type=ToFront) for data in frames]

    def open(self, number: int) -> Task:
        """A task that is owed an answer."""
        job = Job(number, 1, (Item("bytes", 0, "0"),), None, None, 5, 0.0, 0.0)
        task = make_task(job, self, self.service, memoryview(b""), 0.0, number)
        self.answers.open(task)
        return task


def reply(task: Task) -> Reply:
    """Some reply."""
    return Reply(task.job.id, (), None, "warm", 1, Stages(0, 0, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("first", ["reply", "fail", "cancel"])
def test_only_the_first_answer_is_sent(first: str) -> None:
    desk = Desk()
    task = desk.open(1)
    ways: dict[str, Callable[[], None]] = {
        "reply": lambda: desk.answers.reply([(task, reply(task))]),
        "fail": lambda: desk.answers.fail(task, InputError("bad")),
        "cancel": lambda: desk.answers.cancel(task),
    }
    ways[first]()
    assert task.answered
    for way in ways.values():
        way()
    assert len(desk.sent) == 1
    (sent,) = desk.sent
    assert isinstance(sent, Reply) == (first == "reply")
    assert isinstance(sent, Failure) != (first == "reply")


def test_a_forgotten_service_is_reported_with_its_last_answer() -> None:
    desk = Desk()
    tasks = [desk.open(number) for number in range(2)]
    assert desk.answers.owes(desk.service)
    desk.answers.cancel(tasks[0])
    assert desk.done == []
    desk.service.forgotten = True
    desk.answers.cancel(tasks[1])
    assert desk.done == [desk.service]
    assert not desk.answers.owes(desk.service)


def test_an_abandoned_task_is_answered_to_nobody() -> None:
    desk = Desk()
    task = desk.open(1)
    assert desk.answers.owed_to(desk) == [task]
    desk.answers.abandon(task)
    assert task.answered
    assert len(desk.answers) == 0
    desk.answers.fail(task, InputError("late"))
    assert desk.sent == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("x"), "input"),
        (ImageError("x"), "input"),
        (RequestError("x"), "request"),
        (SettingError("x"), "request"),
        (CannotFitError("x"), "request"),
        (OutOfMemoryError("x"), "memory"),
        (MemoryError(), "memory"),
        (LoadError("x"), "model"),
        (KeyError("x"), "internal"),
    ],
)
def test_each_error_has_its_kind(error: Exception, kind: FailureKind) -> None:
    assert kind_of(error) == kind
    desk = Desk()
    desk.answers.fail(desk.open(1), error)
    (sent,) = desk.sent
    assert isinstance(sent, Failure)
    assert sent.failure == kind
    assert sent.message
