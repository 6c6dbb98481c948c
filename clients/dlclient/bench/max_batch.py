"""The largest batch that fits: doubling until one does not, then halving the gap; each try in a process of its own.

What limits it: on a GPU the device's memory; on a CPU a limit that the search sets itself, RLIMIT_DATA. It counts the
private memory that a process has allocated, touched or not, and refuses more: the frameworks then raise what they raise
when memory runs out, and nothing else on the machine suffers. (RLIMIT_AS counts mapped files too, gigabytes of libraries
of which little is ever read; a cgroup is writable in few places.) A failure that need not be one of memory (a crash, an
error) is tried again without the limit: what then passes failed for want of memory.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
from dlmodels.engines.host import host_memory

from dlclient.bench.attempt import CHILD, Outcome, attempt
from dlclient.bench.job import Budget, Entered, Event, Job, Progress
from dlclient.bench_result import MaxBatch, Point
from dlclient.errors import PointError
from dlclient.results import Reason

LIMIT = "RLIMIT_DATA: private memory that the process may allocate, touched or not; mapped files are not in it"
_ITERATIONS = 2
"""Timed, after one that warms up: some frameworks plan their memory anew in the second run or the third."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found. `ended_by`: the kind of the failure that it could not get past; "" where only memory or the
    network itself set the bound.
    """

    largest: int
    smallest_failed: int | None
    tries: tuple[tuple[int, str], ...]
    ended_by: str


def search(attempted: Callable[[int], str], most: int) -> Search:
    """Find the largest batch of 1 to `most` images that fits, exactly, as long as any smaller than one that fits does too.

    `attempted`: tries a batch size and gives "" or the kind of its failure. Out of memory and "unsupported" (more than the
    network takes) bound the batch; any other kind ends the search where it is.
    """
    tries: list[tuple[int, str]] = []
    largest, failed, size = 0, most + 1, 1
    while failed - largest > 1:
        kind = attempted(size)
        tries.append((size, kind))
        if not kind:
            largest = size
        else:
            failed = size
        if kind not in {"", "out-of-memory", "unsupported"}:
            return Search(largest, failed, tuple(tries), kind)
        size = min(2 * size, most) if failed > most else (largest + failed) // 2
    return Search(largest, failed if failed <= most else None, tuple(tries), "")


def _confirmed(found: Search, attempted: Callable[[int], str]) -> Search:
    """With one more try of the smallest batch that memory refused: near the bound an allocator may need more or less by chance."""
    failed = found.smallest_failed
    if failed is None or dict(found.tries)[failed] != "out-of-memory":
        return found
    return replace(found, tries=(*found.tries, (failed, attempted(failed))))


def measure(job: Job, tell: Callable[[Event], None], *, command: Sequence[str] = CHILD) -> Point:
    """The largest batch of the job's setting that fits, with every try in it.

    Raises PointError where not even one image could be tried for another reason than memory, and for a server, whose
    memory cannot be limited from here.
    """
    setting = job.setting
    if setting.target != "inproc":
        raise PointError(
            f"the largest batch is searched in a process whose memory can be limited, not at {setting.target}:"
            " leave the target out",
            kind="unsupported",
        )
    limit_bytes = None
    if not setting.device.startswith("cuda"):
        limit_bytes = job.memory_limit_bytes or host_memory().free_bytes
    trial = _Trial(job, limit_bytes, tell, command)
    found = search(trial.run, job.most_images)
    fitted = trial.fitted
    if not found.largest and found.ended_by:
        assert trial.last.failure is not None
        raise PointError(f"a batch of 1 already failed: {trial.last.failure.text}", kind=trial.last.failure.kind)
    return _point(job, _confirmed(found, trial.run), limit_bytes, fitted)


class _Trial:
    """Tries one batch size after the other and keeps what a report needs of them."""

    def __init__(
        self, job: Job, limit_bytes: int | None, tell: Callable[[Event], None], command: Sequence[str]
    ) -> None:
        self._job = job
        self._limit_bytes = limit_bytes
        self._tell = tell
        self._command = command
        self._done = 0
        self.last = Outcome(None, None, 0)
        self.fitted = self.last
        """The latest that fitted, which is the largest."""

    def run(self, batch_size: int) -> str:
        """ "" where the batch fits, else the kind of its failure."""
        job = self._of(batch_size)
        self._enter(job.budget)
        outcome = self._attempt(job, self._limit_bytes)
        if outcome.kind in {"crash", "error"} and self._limit_bytes is not None:
            self._enter(job.budget)
            freely = self._attempt(job, None)
            outcome = _for_want_of_memory(outcome) if freely.kind in {"", "out-of-memory"} else freely
        if not outcome.kind:
            self.fitted = outcome
        self.last = outcome
        self._done += 1
        self._tell(Progress(min(self._done / (2 * math.log2(max(self._job.most_images, 2)) + 1), 1.0)))
        return outcome.kind

    def _attempt(self, job: Job, limit_bytes: int | None) -> Outcome:
        outcome = attempt(job, data_limit_bytes=limit_bytes, command=self._command)
        limit = f"{limit_bytes} bytes" if limit_bytes is not None else "all the memory that there is"
        text = (
            f"{outcome.failure.kind} in {outcome.failure.stage}: {outcome.failure.text}" if outcome.failure else "fits"
        )
        print(f"batch of {job.setting.batch_size} in {limit}: {text}", file=sys.stderr, flush=True)
        return outcome

    def _enter(self, budget: Budget) -> None:
        """A try may take what its stages may take."""
        timeout_s = budget.start_timeout_s + budget.prepare_timeout_s + (_ITERATIONS + 3) * budget.iteration_timeout_s
        self._tell(Entered("search", timeout_s))

    def _of(self, batch_size: int) -> Job:
        """The same job for one batch size, as short as it can be."""
        setting = msgspec.structs.replace(self._job.setting, question="latency", batch_size=batch_size, in_flight=1)
        budget = msgspec.structs.replace(
            self._job.budget,
            warm_up_min_iterations=1,
            warm_up_max_iterations=1,
            min_iterations=_ITERATIONS,
            max_iterations=_ITERATIONS,
            min_s=0.0,
            max_s=self._job.budget.iteration_timeout_s * _ITERATIONS,
        )
        return msgspec.structs.replace(self._job, setting=setting, budget=budget, different_batches=1)


def _for_want_of_memory(outcome: Outcome) -> Outcome:
    """A failure that did not come again when there was more memory."""
    assert outcome.failure is not None
    return replace(outcome, failure=msgspec.structs.replace(outcome.failure, kind="out-of-memory"))


def _point(job: Job, found: Search, limit_bytes: int | None, fitted: Outcome) -> Point:
    """What the search says, with what the engine told of itself at the largest batch."""
    own = fitted.point
    read_back = dict(own.read_back) if own else {}
    read_back["memory_limit"] = "the device's memory" if limit_bytes is None else LIMIT
    if own:
        read_back["resident_bytes"] = fitted.resident_bytes
    return Point(
        id=job.setting.id,
        setting=job.setting,
        started="",
        seconds=0.0,
        scope=own.scope if own else "model",
        simulated=own.simulated if own else False,
        read_back=read_back,
        model_bytes=own.model_bytes if own else None,
        max_batch=MaxBatch(
            largest=found.largest,
            smallest_failed=found.smallest_failed,
            limit_bytes=limit_bytes,
            tries=found.tries,
        ),
        reasons=_reasons(found),
        warnings=_warnings(found),
    )


def _reasons(found: Search) -> tuple[Reason, ...]:
    if not found.ended_by:
        return ()
    return (
        Reason(
            "search-ended",
            f"a batch of {found.smallest_failed} failed by {found.ended_by}, which says nothing of memory:"
            f" {found.largest} is the largest batch that was seen to fit, not the largest that does",
            "see the point's log, and give a longer iteration_timeout_s where it was a time-out",
        ),
    )


def _warnings(found: Search) -> tuple[Reason, ...]:
    kinds = [kind for size, kind in found.tries if size == found.smallest_failed]
    if "out-of-memory" in kinds and "" in kinds:
        return (
            Reason(
                "uncertain-bound",
                f"a batch of {found.smallest_failed} found no memory once and fitted once: the bound is uncertain by a few images",
                "take the smaller figure, or ask for a few repetitions",
            ),
        )
    if "unsupported" in kinds:
        return (
            Reason(
                "bounded-by-the-network",
                f"a batch of {found.smallest_failed} was refused whatever the memory: the network takes no more",
                "export the network for any batch size",
            ),
        )
    if found.smallest_failed is None:
        return (
            Reason(
                "bounded-by-the-search",
                f"{found.largest} images fit and no more were tried: the largest batch may be larger",
                "raise most_images, or lower the memory limit",
            ),
        )
    return ()
