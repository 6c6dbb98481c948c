"""Skeletons, prepared once, by an engine that counts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dlmodels.engines.base import Engine, Memory, Model, Place
from dlmodels.errors import RepositoryError
from dlmodels.spec import ModelSpec
from dlserve.worker.cache import ModelCache
from dlserve.worker.engines import Engines
from dlserve.worker.files import ModelFiles
from dlserve.worker.preparing import Preparer
from dlserve.worker.service import Service

from tests.server.worker.conftest import Weights


class Counting(Engine):
    """Prepares when it is let, and fails when told."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__(Place("cpu", 1))
        self.attempts = 0
        self.prepared: list[str] = []
        self.fails = False
        self.let = threading.Event()
        self.let.set()

    def start(self) -> None:
        pass

    def prepare(self, spec: ModelSpec) -> Model:
        self.attempts += 1
        assert self.let.wait(30)
        if self.fails:
            raise RepositoryError("no such folder")
        return Weights(spec.name, 10)

    def note(self, service: Service, model: Model) -> None:
        self.prepared.append(f"{service.number} {model.spec.name}")

    def memory(self) -> Memory:
        raise NotImplementedError


@pytest.fixture
def engine() -> Counting:
    """The engine of every service here."""
    return Counting()


@contextmanager
def preparer_of(engine: Counting) -> Iterator[Preparer]:
    """A preparer that knows one engine, started already."""
    engines = Engines(Place("cpu", 1))
    engines._started[engine.name] = engine
    cache = ModelCache(100, lambda event: None)  # noqa: ARG005  no one listens
    preparer = Preparer(engines, cache, ModelFiles(drop=False), (), engine.note)
    yield preparer
    preparer.close()


def service() -> Service:
    """A service of that engine."""
    return Service(1, ModelSpec("model", "counting"))


def ask(preparer: Preparer, asked: Service, times: int) -> list[Exception | None]:
    """Ask several times at once and wait for all answers."""
    answers: list[Exception | None] = []
    for _ in range(times):
        preparer.submit(asked, answers.append)
    return wait_for(preparer, answers)


def wait_for(preparer: Preparer, answers: list[Exception | None]) -> list[Exception | None]:
    """The answers, once everything submitted is done."""
    done = threading.Event()
    preparer.after(done.set)
    assert done.wait(30)
    return answers


def test_a_model_is_prepared_once_for_all_who_ask(engine: Counting) -> None:
    with preparer_of(engine) as preparer:
        asked = service()
        assert ask(preparer, asked, 5) == [None] * 5
        assert ask(preparer, asked, 1) == [None]
    assert engine.attempts == 1
    assert asked.model is not None
    assert engine.prepared == ["1 model"], "and told of once"


def test_one_failed_attempt_answers_all_who_waited_for_it_and_the_next_to_ask_tries_again(engine: Counting) -> None:
    engine.fails = True
    engine.let.clear()
    with preparer_of(engine) as preparer:
        asked = service()
        answers: list[Exception | None] = []
        for _ in range(5):
            preparer.submit(asked, answers.append)
        engine.let.set()
        wait_for(preparer, answers)
        assert [type(answer) for answer in answers] == [RepositoryError] * 5
        assert engine.attempts == 1
        engine.fails = False
        assert ask(preparer, asked, 1) == [None]
    assert engine.attempts == 2


def test_a_defect_in_what_follows_does_not_end_the_preparing(engine: Counting) -> None:
    def defect(failure: Exception | None) -> None:
        raise ZeroDivisionError(failure)

    with preparer_of(engine) as preparer:
        asked = service()
        preparer.submit(asked, defect)
        assert ask(preparer, asked, 1) == [None]
