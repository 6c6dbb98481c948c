"""What the run found, in one sentence, and the ratios it rests on. Pure functions."""

from dlclient.results import Summary

from dlreport.quantity import count, milliseconds, ratio, significant
from dlreport.stream.view import PhaseView, StreamView


def times(cold: float | None, warm: float | None) -> float | None:
    """cold / warm; None where either is not known or nothing can be divided by."""
    return cold / warm if cold is not None and warm else None


def latency_ratio(cold: Summary | None, warm: Summary | None) -> float | None:
    """Mean latency cold over mean latency warm: what `cold / warm` means everywhere in the report."""
    if cold is None or warm is None:
        return None
    return times(cold.latency_s.mean, warm.latency_s.mean)


def answer(view: StreamView) -> str:
    """The run's question answered in one sentence: what does a request cost warm, what cold?"""
    if not view.phases:
        return "The run ended before its first phase: there is nothing to compare."
    if all(phase.total.latency_s.mean is None for phase in view.phases):
        return "No request got a good answer, so there is no figure."
    baseline = view.baseline
    figures = [_figure(phase) for phase in ((baseline, *view.compared) if baseline else view.phases)]
    sentence = ", ".join(figures) + _scope(view)
    if baseline is None:
        return f"{_capital(sentence)}; there is no warm phase to compare with."
    ratios = [latency_ratio(phase.total, baseline.total) for phase in view.compared]
    if not ratios:
        return f"{_capital(sentence)}; there is no other phase to compare it with."
    if None in ratios:
        return f"{_capital(sentence)}: no ratio."
    return f"{_capital(sentence)}: {', '.join(ratio(value) for value in ratios if value is not None)}."


def rates(view: StreamView) -> str:
    """Images per second of each phase that has them."""
    told = [
        f"{phase.label} {significant(phase.total.images_per_s)} images/s"
        for phase in view.phases
        if phase.total.images_per_s is not None
    ]
    return f"{_capital(', '.join(told))}." if told else ""


def offered(view: StreamView) -> str:
    """What was due and what of it was sent, of an open loop; "" of a closed one."""
    told = [
        f"{phase.label} {significant(rate)} requests/s were due and {_share(sent, rate)} of them sent"
        for phase in view.phases
        if (rate := phase.phase.offered_per_s) and (sent := phase.phase.delivered_per_s) is not None
    ]
    dropped = sum(phase.total.dropped for phase in view.phases)
    never = f"; {_counted(dropped, 'request')} dropped, never sent" if dropped else ""
    return f"Open loop, {view.run.plan.load}: {', '.join(told)}{never}." if told else ""


def _share(part: float, whole: float) -> str:
    return f"{min(part / whole, 1.0):.1%}".replace("%", " %")


def amount(view: StreamView) -> str:
    """How much was sent, and how much of it failed."""
    requests = sum(phase.total.requests for phase in view.phases)
    errors = sum(phase.total.errors for phase in view.phases)
    return (
        f"{_counted(requests, 'request')} to {_counted(len(view.services), 'model')}"
        f" in {_counted(len(view.phases), 'phase')}, {_counted(errors, 'error')}"
    )


def _figure(phase: PhaseView) -> str:
    mean = phase.total.latency_s.mean
    return f"{phase.label} without a good answer" if mean is None else f"{phase.label} {milliseconds(mean)} ms"


def _scope(view: StreamView) -> str:
    size = view.run.plan.batch_size
    return " at the mean" if size == 1 else f" at the mean of a request of {size} images"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _counted(number: int, noun: str) -> str:
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")
