"""Jobs that cost less to run than to hand over to another thread: the thread that received them runs them itself."""

from collections.abc import Callable, Sequence

from dlmodels.engines.base import Model

from dlserve.messages import AS_SENT
from dlserve.worker.agenda import Agenda
from dlserve.worker.task import Task

FORWARD_S = 100e-6
"""A forward this short is over before another thread would have begun it."""
MOST = 8
"""Jobs that are taken off the connection before they run as one batch."""
SMALL_BYTES = 1 << 18
"""A frame that is read in little time: for a larger one, those that came before it do not wait."""


def is_quick(task: Task) -> bool:
    """Only a single raw input of a model that takes it undecoded, that is on the device and whose latest forward was over in no time."""
    service, items = task.service, task.job.items
    return not (
        service.forward_s > FORWARD_S
        or task.alone
        or len(items) > 1
        or items[0].kind not in AS_SENT
        or service.model is None
        or service.model.decodes
        or task.found != "warm"
    )


class Quick:
    """Those of one connection. What has come together runs as one batch and is answered in one write."""

    def __init__(
        self,
        agenda: Agenda,
        run: Callable[[Sequence[Task]], None],
        admit: Callable[[Task, Model], None],
        max_batch: int,
    ) -> None:
        """`run`: a batch, here and now. `admit`: to the device thread, in its turn."""
        self._agenda = agenda
        self._run = run
        self._admit = admit
        self._most = min(MOST, max_batch)
        self._tasks: list[Task] = []

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task) -> None:
        """Keep a job that `is_quick` until `run`; those before it run now if it can't share their batch, or that were no longer quick."""
        if tasks := self._tasks:
            images = len(tasks) + 1
            if (
                images > self._most
                or task.key != tasks[0].key
                or task.service.forward_times.seconds(images) > FORWARD_S
            ):
                self.run()
        self._tasks.append(task)

    def run(self) -> bool:
        """Run what is kept, if nothing else runs or waits, so that no order changes; else hand it over. True: the last was alone.

        While it runs nothing is received, but for about as long as a hand-over would take; one that turns out slow is the
        last of its kind.
        """
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return False
        if not self._agenda.take_if_idle():
            for task in tasks:
                assert task.service.model is not None
                self._admit(task, task.service.model)
            return False
        for task in tasks:
            task.inputs = (task.body,)
        self._run(tasks)
        self._agenda.give_back()
        return tasks[-1].job.lone
