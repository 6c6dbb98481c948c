"""Batches through a model that fails on demand: who gets which answer."""

from collections.abc import Callable
from time import perf_counter

import msgspec
import numpy as np
import pytest
from dlmodels.engines.base import Batch, Model
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError
from dlmodels.spec import ModelSpec
from dlserve.messages import HEADER, Evicted, Failure, Item, Job, Loaded, Reply, ToFront
from dlserve.worker.answers import Answers
from dlserve.worker.cache import ModelCache
from dlserve.worker.files import ModelFiles
from dlserve.worker.runner import Runner
from dlserve.worker.service import Service
from dlserve.worker.task import Task, make_task
from numpy.typing import NDArray

Rule = Callable[[list[bytes]], None]


class Picky(Model):
    """Answers class i for an input whose first byte is i; `rule` may raise."""

    decodes = False

    def __init__(self, rule: Rule) -> None:
        super().__init__(ModelSpec("picky", "test", classes=8))
        self.rule = rule
        self.batches: list[int] = []

    @property
    def weights_bytes(self) -> int:
        return 10

    def load(self) -> None:
        pass

    def unload(self) -> None:
        pass

    def run(self, batch: Batch) -> NDArray[np.float32]:
        inputs = [bytes(item) for item in batch]
        self.batches.append(len(inputs))
        self.rule(inputs)
        out = np.zeros((len(inputs), 8), np.float32)
        for place, item in enumerate(inputs):
            out[place, item[0]] = np.nan if b"nan" in item else 1
        return out


class Bench:
    """A runner with one model, and the answers that it gave, in order."""

    def __init__(self, model: Model) -> None:
        self.service = Service(1, model.spec, model)
        self.sent: list[ToFront] = []
        self.answers = Answers(lambda service: None)  # noqa: ARG005  nothing is forgotten here
        self.events: list[Loaded | Evicted] = []
        self.cache = ModelCache(100, self.events.append)
        self.cache.add(1, model)
        self.runner = Runner(self.cache, self.answers, ModelFiles(drop=False))

    def send(self, *frames: bytes) -> None:
        """What the connection would be given."""
        for data in frames:
            self.sent.append(msgspec.msgpack.decode(data[HEADER.size :], type=ToFront))

    def run(self, *jobs: list[bytes], best: int = 1) -> list[ToFront]:
        """Run jobs, each a list of inputs, as one batch; their answers by job number."""
        self.sent.clear()
        tasks: list[Task] = []
        for number, inputs in enumerate(jobs):
            items = tuple(Item("bytes", len(data), str(place)) for place, data in enumerate(inputs))
            job = Job(number, 1, items, None, None, best, 0.0, 0.0)
            tasks.append(make_task(job, self, self.service, memoryview(b""), 0.0, number))
            tasks[-1].inputs = inputs
            self.answers.open(tasks[-1])
        self.runner.run(tasks)
        assert len(self.answers) == 0, "every task is answered"
        assert all(task.answered for task in tasks)
        self.cache.check()
        answers = {message.id: message for message in self.sent if isinstance(message, Reply | Failure)}
        assert len(answers) == len([m for m in self.sent if isinstance(m, Reply | Failure)]), "and only once"
        return [answers[number] for number in range(len(jobs))]


def top(message: ToFront) -> list[int]:
    """The best class of each image of a reply."""
    assert isinstance(message, Reply), message
    return [classes[0][0] for classes in message.predictions]


def fine(inputs: list[bytes]) -> None:
    """No rule."""


def refuse(poison: bytes, error: Exception) -> Rule:
    """Fail on every batch that holds an input with `poison` in it."""

    def rule(inputs: list[bytes]) -> None:
        if any(poison in item for item in inputs):
            raise error

    return rule


def at_most(images: int) -> Rule:
    """Have memory for so many images at once."""

    def rule(inputs: list[bytes]) -> None:
        if len(inputs) > images:
            raise OutOfMemoryError(f"no room for {len(inputs)} images")

    return rule


def test_each_job_of_a_batch_gets_its_own_rows() -> None:
    model = Picky(fine)
    answers = Bench(model).run([b"\1", b"\2"], [b"\3"], [b"\4", b"\5", b"\6"])
    assert [top(answer) for answer in answers] == [[1, 2], [3], [4, 5, 6]]
    assert model.batches == [6]
    assert all(isinstance(answer, Reply) and answer.batch_size == 6 for answer in answers)


def test_a_job_that_asks_for_it_whole_gets_its_own_rows_of_all_classes() -> None:
    bench = Bench(Picky(fine))
    tasks: list[Task] = []
    for number, inputs in enumerate(([b"\1", b"\2"], [b"\3"])):
        items = tuple(Item("planes", 1, str(place)) for place in range(len(inputs)))
        job = Job(number, 1, items, None, None, 0, 0.0, 0.0, whole=number == 0)
        tasks.append(make_task(job, bench, bench.service, memoryview(b""), 0.0, number))
        tasks[-1].inputs = inputs
        bench.answers.open(tasks[-1])
    bench.runner.run(tasks)
    whole, best = (message for message in bench.sent if isinstance(message, Reply))
    rows = np.frombuffer(whole.rows, np.float32).reshape(2, -1)
    assert rows.argmax(axis=1).tolist() == [1, 2]
    assert (len(whole.predictions), best.rows) == (2, b"")


def test_the_stages_of_a_job_add_up_and_count_its_wait_for_the_skeleton_as_load() -> None:
    bench = Bench(Picky(fine))
    job = Job(0, 1, (Item("bytes", 1, "0"),), None, "disk", 1, 0.0, 0.0)
    task = make_task(job, bench, bench.service, memoryview(b""), perf_counter() - 10.0, 0)
    task.inputs, task.prepare_s, task.decode_s = [b"\1"], 3.0, 2.0
    bench.answers.open(task)
    bench.runner.run([task])
    reply = bench.sent[-1]
    assert isinstance(reply, Reply)
    stages = reply.stages
    assert stages.decode == 2.0
    assert stages.load > 3.0
    assert stages.queue > 5.0
    parts = (stages.decode, stages.queue, stages.demote, stages.load, stages.forward, stages.post)
    assert sum(parts) == pytest.approx(stages.replied - stages.received, abs=1e-9)


@pytest.mark.parametrize(
    ("room", "parts", "largest"),
    [(7, [7], 7), (6, [7, 4, 3], 4), (3, [7, 4, 2, 2, 2, 1], 2), (1, [7, 4, 2, 1, 1, 1, 1, 1, 1, 1], 1)],
)
def test_out_of_memory_halves_the_parts_and_goes_on_where_it_was(room: int, parts: list[int], largest: int) -> None:
    model = Picky(at_most(room))
    answers = Bench(model).run([b"\1", b"\2", b"\3"], [b"\4", b"\5", b"\6", b"\7"])
    assert [top(answer) for answer in answers] == [[1, 2, 3], [4, 5, 6, 7]]
    assert all(isinstance(answer, Reply) and answer.batch_size == largest for answer in answers)
    assert model.batches == parts


def test_a_graph_that_takes_so_many_images_is_never_given_more() -> None:
    model = Picky(fine)
    model.most_images = 3
    answers = Bench(model).run([b"\1", b"\2"], [b"\3", b"\4", b"\5"], [b"\6", b"\7"])
    assert [top(answer) for answer in answers] == [[1, 2], [3, 4, 5], [6, 7]]
    assert model.batches == [3, 3, 1]
    assert all(isinstance(answer, Reply) and answer.batch_size == 3 for answer in answers)


def test_no_room_even_for_one_image_is_a_memory_failure() -> None:
    answers = Bench(Picky(at_most(0))).run([b"\1", b"\2"], [b"\3"])
    assert [(a.failure, a.message) for a in answers if isinstance(a, Failure)] == [
        ("memory", "no room for 1 images")
    ] * 2


def test_a_poisonous_input_fails_its_own_job_only() -> None:
    model = Picky(refuse(b"poison", ForwardError("the network choked")))
    answers = Bench(model).run([b"\1"], [b"\2poison", b"\3"], [b"\4"])
    assert top(answers[0]) == [1]
    assert top(answers[2]) == [4]
    assert isinstance(answers[1], Failure)
    assert (answers[1].failure, answers[1].message) == ("internal", "the network choked")
    assert model.batches == [4, 1, 2, 1]


def test_a_network_s_nan_fails_its_own_job_only() -> None:
    answers = Bench(Picky(fine)).run([b"\1"], [b"\2nan"])
    assert top(answers[0]) == [1]
    assert isinstance(answers[1], Failure)
    assert answers[1].failure == "internal"
    assert "NaN" in answers[1].message


def test_a_defect_answers_every_job_and_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Picky(refuse(b"bug", ZeroDivisionError("oops"))))
    answers = bench.run([b"\1bug"], [b"\2"])
    assert [a.failure for a in answers if isinstance(a, Failure)] == ["internal", "internal"]
    assert all(isinstance(a, Failure) and "ZeroDivisionError: oops" in a.message for a in answers)
    assert caplog.text.count("Traceback") == 1
    assert top(bench.run([b"\1"])[0]) == [1], "and the next batch runs"


class Lopsided(Picky):
    """Returns a row too few."""

    def run(self, batch: Batch) -> NDArray[np.float32]:
        return super().run(batch)[1:]


def test_a_network_that_drops_rows_is_an_error_and_never_a_shifted_answer() -> None:
    answers = Bench(Lopsided(fine)).run([b"\1"], [b"\2"])
    assert all(isinstance(a, Failure) and "batch dimension" in a.message for a in answers)


class Unloadable(Picky):
    """Its weights are gone."""

    def load(self) -> None:
        raise LoadError("weights.safetensors is gone: build the model again")


def test_a_model_that_cannot_be_loaded_answers_every_job() -> None:
    answers = Bench(Unloadable(fine)).run([b"\1"], [b"\2"])
    assert [a.failure for a in answers if isinstance(a, Failure)] == ["model", "model"]
    assert all(isinstance(a, Failure) and "is gone" in a.message for a in answers)
