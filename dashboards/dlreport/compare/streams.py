"""Two stream results compared: phase by phase, all models together and each by itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dlclient.results import Reason, Record, Run, Summary

from dlreport.compare.comparison import Compared, Comparison, Lone, Side
from dlreport.compare.difference import Timed, changes
from dlreport.compare.discrepancies import stream_discrepancies
from dlreport.stream import facts
from dlreport.stream.report import stamps
from dlreport.stream.tables import ALL
from dlreport.stream.view import PhaseView, StreamView, load_stream


def compare_streams(a: Path, b: Path) -> Comparison:
    """Read and compare two stream results. Raises NotAResultError."""
    views = load_stream(a), load_stream(b)
    sides = _side("A", a, views[0]), _side("B", b, views[1])
    return Comparison(
        kind="stream",
        a=sides[0],
        b=sides[1],
        points=tuple(_points(*views)),
        lone=tuple(_lone(*views)),
        warnings=(*_remarks(*views), *stream_discrepancies(views[0].run, views[1].run)),
    )


def _side(letter: str, folder: Path, view: StreamView) -> Side:
    run = view.run
    served_by = facts.hardware(run) or "hardware not told"
    return Side(letter, str(folder), run.started, served_by, facts.software(run), stamps(view))


def _points(a: StreamView, b: StreamView) -> Iterator[Compared]:
    """All models first, then each model; within each the phases in A's order."""
    same_plan = a.run.plan.sha256 == b.run.plan.sha256
    pairs = [(one, other) for one in a.phases for other in b.phases if one.name == other.name]
    for service in (None, *a.services):
        for pair in pairs:
            summaries = [_summary(phase, service) for phase in pair]
            if None not in summaries and all(summary and summary.latency_n for summary in summaries):
                sides = [
                    timed(view.run, phase, service, summary, same_plan=same_plan)
                    for view, phase, summary in zip((a, b), pair, summaries, strict=True)
                    if summary is not None
                ]
                found = tuple(
                    change for change in changes(sides[0], sides[1]) if not (change.a is None and change.b is None)
                )
                yield Compared(
                    service or ALL, pair[0].label, found, _doubts(*pair), pair[0].name, strong=service is None
                )


def _summary(phase: PhaseView, service: str | None) -> Summary | None:
    return phase.total if service is None else phase.phase.services.get(service)


def timed(run: Run, phase: PhaseView, service: str | None, summary: Summary, *, same_plan: bool = False) -> Timed:
    """The good answers of a phase and a model (None: all). In an open loop the schedule says how often a model is asked: then only all together have a rate."""
    good = [record for record in phase.records if record.ok and service in (None, record.model)]
    good.sort(key=lambda record: (record.due_s, record.index))
    if same_plan:  # by then the order of the plan, which users that take turns may leave in time
        good.sort(key=lambda record: record.index)
    closed = run.plan.load == "closed"
    return Timed(
        latency_s=[record.latency_s for record in good],
        images_per_s=summary.images_per_s if closed or service is None else None,
        waited_s=[record.waited_s for record in good] if closed else (),
        done_s=() if closed or service is not None else [record.done_s for record in good],
        key_of=tuple(_key(record) for record in good) if same_plan else (),
    )


def _key(record: Record) -> tuple[object, ...]:
    return record.index, record.model, record.image


def _doubts(a: PhaseView, b: PhaseView) -> tuple[str, ...]:
    return tuple(
        f"{letter}'s phase is invalid" for letter, phase in (("A", a), ("B", b)) if phase.phase.verdict != "valid"
    )


def _lone(a: StreamView, b: StreamView) -> Iterator[Lone]:
    """Phases and models that only one of them has good answers of."""
    for letter, view, other in (("A", a, b), ("B", b, a)):
        theirs = {phase.name: phase for phase in other.phases}
        for phase in view.phases:
            twin = theirs.get(phase.name)
            if twin is None:
                yield Lone(letter, phase.label, "the other has no such phase")
                continue
            for service, summary in phase.phase.services.items():
                found = twin.phase.services.get(service)
                if summary.latency_n and not (found and found.latency_n):
                    failed = bool(found and found.requests)
                    why = (
                        f"all of the other's {found.requests} requests failed"
                        if found and failed
                        else "not in the other"
                    )
                    yield Lone(letter, f"{service}, {phase.label}", why, failed)


def _remarks(*views: StreamView) -> Sequence[Reason]:
    """What is odd about a folder itself."""
    return [
        Reason(remark.code, f"{letter}: {remark.text}", remark.cure)
        for letter, view in zip("AB", views, strict=True)
        for remark in view.remarks
    ]
