"""Every job's one answer: which are still owed, and the sending of them."""

import logging
from collections.abc import Callable, Iterable, Sequence

from dlserve.messages import HEADER, MAX_META_BYTES, Failure, Reply, frame
from dlserve.worker.failures import ExpiredError, is_expected, kind_of, message_of
from dlserve.worker.service import Service
from dlserve.worker.task import Sender, Task

log = logging.getLogger(__name__)


class Answers:
    """The tasks that are owed an answer.

    A task may be answered, failed and cancelled at once by different threads. Taking it out of the dict is atomic,
    and only the thread that succeeds in it answers.
    """

    def __init__(self, on_closed_forgotten: Callable[[Service], None]) -> None:
        self._on_closed_forgotten = on_closed_forgotten
        self._open: dict[tuple[Sender, int], Task] = {}
        """By who is owed the answer and its number of the job."""

    def __len__(self) -> int:
        return len(self._open)

    def open(self, task: Task) -> None:
        """Owe this task an answer."""
        self._open[task.sender, task.job.id] = task

    def find(self, sender: Sender, job_id: int) -> Task | None:
        """The task of that number, if its answer is owed."""
        return self._open.get((sender, job_id))

    def owed_to(self, sender: Sender) -> list[Task]:
        """The tasks whose answers one front end waits for."""
        return [task for task in list(self._open.values()) if task.sender is sender]

    def owes(self, service: Service) -> bool:
        """Whether a job of the service still waits for its answer."""
        return any(task.service is service for task in list(self._open.values()))

    def reply(self, replies: Iterable[tuple[Task, Reply]]) -> None:
        """Answer tasks, with one call of each connection."""
        frames: dict[Sender, list[bytes]] = {}
        for task, reply in replies:
            if self._close(task):
                frames.setdefault(task.sender, []).append(_fitting(reply))
        for sender, encoded in frames.items():
            sender.send(*encoded)

    def fail(self, task: Task, exc: Exception) -> None:
        """Answer a task with a failure, unless it has its answer."""
        self.fail_all((task,), exc)

    def fail_all(self, tasks: Sequence[Task], exc: Exception) -> None:
        """Answer those of a batch that are open yet with a failure; a defect's traceback goes to the log."""
        failed = [task for task in tasks if self._close(task)]
        if not failed:
            return
        kind, message = kind_of(exc), message_of(exc)
        if kind not in {"input", "request", "expired"}:
            log.log(
                logging.WARNING if is_expected(exc) else logging.ERROR,
                "model %s: %d job(s) failed: %s",
                failed[0].service.spec.name,
                len(failed),
                exc,
                exc_info=None if is_expected(exc) else exc,
            )
        for task in failed:
            task.sender.send(frame(Failure(task.job.id, kind, message)))

    def expire(self, tasks: Sequence[Task]) -> None:
        """Answer tasks whose deadline has passed before they ran."""
        self.fail_all(tasks, ExpiredError("its deadline has passed before it ran, so it was dropped"))

    def cancel(self, task: Task) -> None:
        """Answer a task that was dropped before it ran."""
        if self._close(task):
            task.sender.send(frame(Failure(task.job.id, "cancelled", "dropped before it ran: its client had left")))

    def abandon(self, task: Task) -> None:
        """Whoever waited for a task is gone: it counts as answered."""
        self._close(task)

    def _close(self, task: Task) -> bool:
        if self._open.pop((task.sender, task.job.id), None) is not task:
            return False
        task.answered = True
        if task.service.forgotten:
            self._on_closed_forgotten(task.service)
        return True


def _fitting(reply: Reply) -> bytes:
    """The reply's frame, or a failure's where it has more bytes than a frame may have."""
    encoded = frame(reply)
    if len(encoded) <= HEADER.size + MAX_META_BYTES:
        return encoded
    size = f"{len(encoded) >> 20} MiB, more than {MAX_META_BYTES >> 20}"
    return frame(Failure(reply.id, "request", f"the answer would have {size}: ask for fewer classes (best) or images"))
