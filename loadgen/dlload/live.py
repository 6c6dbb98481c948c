"""The figures of a run while it is under way: counts and histograms by phase and model, cheap to add to, mergeable.

`observe` is called for each record and costs some microseconds; what is expensive (percentiles) happens in `snapshot`,
which is taken when somebody looks. The final figures do not come from here but from all records (dlclient.statistics);
these agree with them within 0.1 %, the width of a bucket of an HDR histogram with 3 digits.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
from dlclient.histogram import Histogram
from dlclient.results import Record

from dlload.verdict import Judgement

_SECONDS_KEPT = 64


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a phase is, as whoever runs it knows. Those of several processes add up."""

    phase: str
    temperature: str
    """That every answer should report."""
    planned: int
    """Requests that it is to send."""
    taken: int
    """Requests that were handed to a sender."""
    answered: int
    """Requests that ended, well or not."""
    elapsed_s: float
    """Since it began; once it has ended, its length. 0: it has not begun."""
    ended: bool = False
    offered_per_s: float | None = None
    """The rate that its schedule asks for at this moment; None for a closed loop, which takes what it gets."""
    dropped: int = 0
    """Requests that were given up because they were too late."""

    def plus(self, other: "Progress") -> "Progress":
        """Of two processes that share the phase."""
        offered = [rate for rate in (self.offered_per_s, other.offered_per_s) if rate is not None]
        return Progress(
            phase=self.phase,
            temperature=self.temperature,
            planned=self.planned + other.planned,
            taken=self.taken + other.taken,
            answered=self.answered + other.answered,
            elapsed_s=max(self.elapsed_s, other.elapsed_s),
            ended=self.ended and other.ended,
            offered_per_s=sum(offered) if offered else None,
            dropped=self.dropped + other.dropped,
        )


class ModelCounts:
    """One model in one phase. Latencies are those of good answers."""

    __slots__ = ("errors", "latency", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latency = Histogram()

    def merge(self, other: "ModelCounts") -> None:
        """Add all of another."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency.merge(other.latency)


class PhaseCounts:
    """One phase: its models, and what is counted over all of them."""

    __slots__ = ("answers", "errors", "models", "seconds", "send_lag")

    def __init__(self) -> None:
        self.models: dict[str, ModelCounts] = {}
        self.send_lag = Histogram()
        """Of good answers, as in the final figures."""
        self.answers: Counter[str] = Counter()
        """Good ones by the temperature that they report, "" where they do not."""
        self.errors: Counter[str] = Counter()
        """By what was wrong."""
        self.seconds: Counter[int] = Counter()
        """Good answers by the second of the phase in which they came; of the last minute."""

    def observe(self, record: Record) -> None:
        """Count one."""
        counts = self.models.get(record.model)
        if counts is None:
            counts = self.models[record.model] = ModelCounts()
        counts.requests += 1
        if record.error:
            counts.errors += 1
            self.errors[record.error] += 1
            return
        counts.latency.record(record.latency_s)
        self.send_lag.record(record.send_lag_s)
        self.answers[record.cache or ""] += 1
        second = int(record.done_s)
        if second not in self.seconds and len(self.seconds) >= _SECONDS_KEPT:
            del self.seconds[min(self.seconds)]
        self.seconds[second] += 1

    def merge(self, other: "PhaseCounts") -> None:
        """Add all of another."""
        for model, counts in other.models.items():
            self.models.setdefault(model, ModelCounts()).merge(counts)
        self.send_lag.merge(other.send_lag)
        self.answers.update(other.answers)
        self.errors.update(other.errors)
        self.seconds.update(other.seconds)


class _ModelMessage(msgspec.Struct, array_like=True):
    model: str
    requests: int
    errors: int
    latency: bytes


class _PhaseMessage(msgspec.Struct, array_like=True):
    phase: str
    models: list[_ModelMessage]
    send_lag: bytes
    answers: dict[str, int]
    errors: dict[str, int]
    seconds: dict[int, int]


class _Message(msgspec.Struct, array_like=True):
    progress: list[Progress]
    phases: list[_PhaseMessage]


class Live:
    """Of one run. In the master of several processes, `merge` takes in what the others `encode`."""

    def __init__(
        self,
        progress: Callable[[], Sequence[Progress]] = tuple,
        findings: Callable[[], Judgement] = Judgement,
    ) -> None:
        """`progress`: of each phase, in order, ask as often as you like. `findings`: of others, such as the monitor's."""
        self._progress = progress
        self._findings = findings
        self._own: dict[str, PhaseCounts] = {}
        self._others: dict[str, _Message] = {}
        self._final: Judgement | None = None

    def observe(self, record: Record) -> None:
        """Count one record: some microseconds."""
        counts = self._own.get(record.phase)
        if counts is None:
            counts = self._own[record.phase] = PhaseCounts()
        counts.observe(record)

    def finish(self, judgement: Judgement) -> None:
        """The run is over, and this is its verdict."""
        self._final = judgement

    @property
    def final(self) -> Judgement | None:
        """The verdict of a run that is over."""
        return self._final

    @property
    def findings(self) -> Judgement:
        """What others have found so far."""
        return self._findings()

    def encode(self) -> bytes:
        """Everything counted so far, as a message to the master; the next one replaces it."""
        phases = [_encode_phase(phase, counts) for phase, counts in self._own.items()]
        return msgspec.msgpack.encode(_Message(list(self._progress()), phases))

    def merge(self, process: str, message: bytes) -> None:
        """Take in another process's latest message. Raises msgspec.DecodeError where it is none."""
        self._others[process] = msgspec.msgpack.decode(message, type=_Message)

    def counts(self) -> dict[str, PhaseCounts]:
        """By phase, over all processes. Not to be changed."""
        if not self._others:
            return self._own
        total: dict[str, PhaseCounts] = {}
        for phase, counts in self._own.items():
            total.setdefault(phase, PhaseCounts()).merge(counts)
        for message in self._others.values():
            for part in message.phases:
                total.setdefault(part.phase, PhaseCounts()).merge(_decode_phase(part))
        return total

    def progress(self) -> list[Progress]:
        """Of each phase, over all processes."""
        total = {progress.phase: progress for progress in self._progress()}
        for message in self._others.values():
            for progress in message.progress:
                known = total.get(progress.phase)
                total[progress.phase] = progress if known is None else known.plus(progress)
        return list(total.values())


def _encode_phase(phase: str, counts: PhaseCounts) -> _PhaseMessage:
    return _PhaseMessage(
        phase=phase,
        models=[
            _ModelMessage(model, one.requests, one.errors, one.latency.encode()) for model, one in counts.models.items()
        ],
        send_lag=counts.send_lag.encode(),
        answers=dict(counts.answers),
        errors=dict(counts.errors),
        seconds=dict(counts.seconds),
    )


def _decode_phase(message: _PhaseMessage) -> PhaseCounts:
    counts = PhaseCounts()
    for one in message.models:
        model = counts.models[one.model] = ModelCounts()
        model.requests, model.errors = one.requests, one.errors
        model.latency = Histogram.decode(one.latency)
    counts.send_lag = Histogram.decode(message.send_lag)
    counts.answers.update(message.answers)
    counts.errors.update(message.errors)
    counts.seconds.update(message.seconds)
    return counts
