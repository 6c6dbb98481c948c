"""Figures of points as cells of a table: what failed is an x that says why, what cannot be trusted says so."""

from dlclient.bench_result import FailureKind, Point

from dlreport.quantity import MISSING
from dlreport.table import Cell, missing

FAILURES: dict[FailureKind, str] = {
    "out-of-memory": "out of memory",
    "crash": "crashed",
    "time-out": "took too long",
    "unsupported": "not supported",
    "error": "failed",
}
"""What became of a point without figures, in words."""

NOT_RUN = "not run"


def figure(point: Point | None, value: float | None, text: str, *, note: str = "", lacking: str = MISSING) -> Cell:
    """A point's figure; `text` and `note` are of the value, `lacking` stands where there is none."""
    if point is None:
        return missing("")
    if point.failure is not None:
        return failed(point)
    if value is None:
        return missing(lacking)
    said = doubt(point)
    return Cell(value, text, "doubt" if said else "", said or note, why_doubted(point))


def failed(point: Point) -> Cell:
    """An x, and why."""
    assert point.failure is not None
    return Cell(None, "x", "error", hover=why_failed(point))


def why_failed(point: Point) -> str:
    """In a sentence: out of memory in load: ..."""
    failure = point.failure
    assert failure is not None
    return f"{FAILURES[failure.kind]} in stage {failure.stage}: {failure.text}"


def doubt(point: Point) -> str:
    """What stands beside a figure that is none to quote; "" beside others."""
    return "do not quote" if point.reasons else "simulated" if point.simulated else ""


def why_doubted(point: Point) -> str:
    """Why it is none to quote, with what to do about it; "" where it is one."""
    return " ".join(f"{reason.text}: {reason.cure}." if reason.cure else f"{reason.text}." for reason in point.reasons)


def outcome(point: Point) -> Cell:
    """What became of a point, in a word or two."""
    if point.failure is not None:
        text = FAILURES[point.failure.kind]
        return Cell(text, text, "error", hover=why_failed(point))
    said = doubt(point)
    return Cell(said, said, "doubt", hover=why_doubted(point)) if said else Cell("measured", "measured")
