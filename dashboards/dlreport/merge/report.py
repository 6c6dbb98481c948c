"""Streams side by side become report.html, pictures and tables."""

from collections.abc import Sequence
from pathlib import Path

from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.merge.pictures import draw_merged
from dlreport.merge.scaling import scaling, scaling_table
from dlreport.merge.side import SideStream, load_sides, phase_names, unlike
from dlreport.merge.tables import setups, side_by_side
from dlreport.page import render
from dlreport.quantity import significant
from dlreport.stream import facts
from dlreport.style import Frame, phase_colors


def write_streams(folders: Sequence[Path], target: Path, names: Sequence[str] | None = None) -> Path:
    """Set streams side by side; the answer is the path of the page. Raises ReportError."""
    sides = load_sides(folders, names)
    steps = scaling(sides)
    made = {"side_by_side": side_by_side(sides), "scaling": scaling_table(steps), "setups": setups(sides)}
    stamps = merged_stamps(sides)
    frame = Frame(f"dlserve streams side by side · {' · '.join(side.label for side in sides)}", stamps)
    with report_folder(target) as folder:
        pictures = draw_merged(sides, steps, frame, folder / PICTURES_FOLDER)
        values = {
            "sides": sides,
            "answer": answer(sides),
            "stamps": stamps,
            "warnings": unlike(sides),
            "tables": made,
            "pictures": pictures,
            "machines": _machines(sides),
            "colors": phase_colors(phase_names(sides)),
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        }
        return complete(folder, render("merge.html", values), made.values(), pictures)


def _machines(sides: Sequence[SideStream]) -> list[facts.Facts]:
    """The load testers' machines, each once."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for side in sides:
        found.setdefault(facts.environment(side.view.run.environment), []).append(side.label)
    return [facts.Facts(f"The load tester's machine: {', '.join(called)}", told) for told, called in found.items()]


def merged_stamps(sides: Sequence[SideStream]) -> tuple[str, ...]:
    """Each stamp of any, with how many have it where not all do."""
    found = dict.fromkeys(stamp for side in sides for stamp in side.stamps)
    told = []
    for stamp in found:
        number = sum(stamp in side.stamps for side in sides)
        told.append(stamp if number == len(sides) else f"{stamp} ({number} of {len(sides)})")
    return tuple(told)


def answer(sides: Sequence[SideStream]) -> str:
    """The throughput of each in the first phase that all have, in a sentence."""
    for name in phase_names(sides):
        phases = [side.phase(name) for side in sides]
        told = [
            f"{side.stamped_label} {significant(phase.total.images_per_s)}"
            for side, phase in zip(sides, phases, strict=True)
            if phase is not None and phase.total.images_per_s is not None
        ]
        if len(told) == len(sides) and phases[0] is not None:
            return f"Images/s, {phases[0].label}: {', '.join(told)}."
    return f"{len(sides)} streams side by side; no phase has figures in all of them."
