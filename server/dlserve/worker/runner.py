"""A batch on the device: as cold as asked, weights there, forward, top classes, answers."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from time import perf_counter

import numpy as np
from dlmodels.engines.base import Batch, Temperature
from dlmodels.errors import ForwardError

from dlserve.messages import TEMPERATURES, Reply, Stages, Why
from dlserve.worker.answers import Answers
from dlserve.worker.cache import ModelCache, Resident
from dlserve.worker.classes import best_classes
from dlserve.worker.files import ModelFiles
from dlserve.worker.forward import forward
from dlserve.worker.task import Task

log = logging.getLogger(__name__)


class Runner:
    """Runs batches, one at a time: whoever calls it has the device to itself."""

    def __init__(self, cache: ModelCache, answers: Answers, files: ModelFiles) -> None:
        self._cache = cache
        self._answers = answers
        self._files = files

    def run(self, tasks: Sequence[Task], in_turn_s: float = 0.0, before_s: float = 0.0) -> None:
        """Answer every task of a batch, with a reply or a failure. Never raises.

        `in_turn_s`: what it took already, decoding in its turn. `before_s`: and between the batch before it and that.
        """
        try:
            if tasks[0].alone:
                with ExitStack() as stack:
                    self._on_device(tasks, "cold", self._demote(tasks[0], stack), in_turn_s, before_s)
            else:
                self._on_device(tasks, "request", 0.0, in_turn_s, before_s)
        except Exception as exc:  # noqa: BLE001  the edge of a batch: whatever it is, its tasks are answered
            self._answers.fail_all(tasks, exc)

    def _on_device(self, tasks: Sequence[Task], why: Why, demote_s: float, in_turn_s: float, before_s: float) -> None:
        with self._cache.use(tasks[0].service.number, why, len(tasks)) as resident:
            try:
                self._forward(tasks, resident, demote_s, in_turn_s, before_s)
            except ForwardError as exc:
                self._one_by_one(tasks, resident, demote_s, exc)

    def _demote(self, task: Task, stack: ExitStack) -> float:
        """Make the model as cold as a job asked, outside of what is measured; the seconds it took.

        Until the stack is closed no other worker reads its files, where they have left the page cache.
        """
        began = perf_counter()
        asked, model = task.job.cache, task.service.model
        assert asked is not None
        assert model is not None
        self._cache.demote(task.service.number, asked)
        if asked == "disk":
            stack.enter_context(self._files.dropped(model.spec))
        return perf_counter() - began

    def _one_by_one(self, tasks: Sequence[Task], resident: Resident, demote_s: float, exc: ForwardError) -> None:
        """One input has failed the batch: run each task by itself, so that it fails no other."""
        if len(tasks) == 1:
            self._answers.fail(tasks[0], exc)
            return
        log.warning(
            "model %s: a batch of %d jobs failed (%s): running each alone", resident.model.spec.name, len(tasks), exc
        )
        for task in tasks:
            try:
                self._forward([task], resident, demote_s, 0.0, 0.0)
            except Exception as alone:  # noqa: BLE001  the edge of a job: whatever it is, it is answered
                self._answers.fail(task, alone)

    def _forward(
        self, tasks: Sequence[Task], resident: Resident, demote_s: float, in_turn_s: float, before_s: float
    ) -> None:
        """Run tasks as one batch and reply to them. If this raises, none has been answered."""
        inputs = _together(tasks)
        began = perf_counter()
        probabilities, largest = forward(resident.model, inputs)
        ended = perf_counter()
        service = tasks[0].service
        service.ran(ended - began)
        if largest == len(probabilities):  # else it ran in parts
            service.forward_times.learn(largest, before_s + in_turn_s + ended - began)
        pays_up_to = service.forward_times.pays_up_to
        replies: list[tuple[Task, Reply]] = []
        row = 0
        for task in tasks:
            rows = probabilities[row : row + task.images]
            row += task.images
            job = task.job
            try:
                predictions = tuple([best_classes(one, job.best, job.threshold) for one in rows])
            except ForwardError as exc:
                self._answers.fail(task, exc)
                continue
            stages = _stages(task, demote_s, resident.load_s, began, ended)
            found = resident.found if task.alone else _colder(task.found, resident.found)
            whole = rows.tobytes() if job.whole else b""
            reply = Reply(job.id, predictions, task.uris, found, largest, stages, whole, pays_up_to, in_turn_s)
            replies.append((task, reply))
        self._answers.reply(replies)


def _colder(one: Temperature, other: Temperature) -> Temperature:
    """The one that costs more: who came to a cold model has waited for its load, whoever it was loaded for."""
    return one if one == other else max(one, other, key=TEMPERATURES.index)


def _together(tasks: Sequence[Task]) -> Batch:
    """The tasks' inputs as one batch; they share a key, so all are planes of one shape or all are bytes."""
    if len(tasks) == 1:
        return tasks[0].inputs
    planes = [task.inputs for task in tasks if isinstance(task.inputs, np.ndarray)]
    if planes:
        return np.concatenate(planes)
    return [data for task in tasks for data in task.inputs if not isinstance(data, np.ndarray)]


def _stages(task: Task, demote_s: float, load_s: float, began: float, ended: float) -> Stages:
    """Where the task's time went. Whatever is not named otherwise is `queue`: waiting, and being put into a batch."""
    load_s += task.prepare_s
    demote_s += task.forget_s
    forward_s = ended - began
    replied = perf_counter()
    post_s = replied - ended
    queue_s = (replied - task.received) - (task.decode_s + demote_s + load_s + forward_s + post_s)
    return Stages(task.received, task.decode_s, queue_s, demote_s, load_s, forward_s, post_s, replied)
