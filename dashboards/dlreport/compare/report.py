"""Two results become a comparison: printed, and as report.html, pictures and tables."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dlclient.results import Reason

from dlreport.compare.benches import compare_benches
from dlreport.compare.comparison import Comparison, Side
from dlreport.compare.condition import Judged
from dlreport.compare.picture import draw_changes
from dlreport.compare.streams import compare_streams
from dlreport.compare.tables import change_text, differences, lone_points
from dlreport.errors import NotAResultError
from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.kinds import same_kind
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.style import Frame, phase_colors
from dlreport.table import to_text

_COMPARERS: Mapping[str, Callable[[Path, Path], Comparison]] = {"stream": compare_streams, "bench": compare_benches}


def compare(a: Path, b: Path) -> Comparison:
    """Two results of one kind. Raises NotAResultError naming the folder and what to do."""
    kind = same_kind((a, b), tuple(_COMPARERS))
    if kind not in _COMPARERS:
        raise NotAResultError(f"{a} is a {kind}; compare takes two streams or two benches: name one of its runs")
    return _COMPARERS[kind](a, b)


def answer(comparison: Comparison) -> str:
    """What was found, in a sentence."""
    if not comparison.points:
        if comparison.others is not None:
            return "The two results have no times in common, but other answers."
        return "The two results have no point in common: there is nothing to compare."
    slower, faster, same, untold = (
        comparison.count(outcome) for outcome in ("slower", "faster", "no difference", "cannot tell")
    )
    total = slower + faster + same + untold
    parts = [f"slower in {slower}"] if slower else []
    parts += [f"faster in {faster}"] if faster else []
    parts += [f"no difference in {same}"] if same else []
    parts += [f"{untold} cannot be told"] if untold else []
    if same and not slower and not faster:
        return f"No difference between A and B in {same} of {total} figures" + (
            f"; {untold} cannot be told." if untold else "."
        )
    return f"Of {total} figures B is {', '.join(parts)}."


def as_text(comparison: Comparison, judged: Sequence[Judged]) -> str:
    """The comparison for a terminal."""
    parts = [f"{' · '.join(comparison.stamps)}: do not quote these figures\n" if comparison.stamps else ""]
    parts += [_side_text(comparison.a), _side_text(comparison.b)]
    parts += [f"warning: {warning.text}; {warning.cure} [{warning.code}]\n" for warning in comparison.warnings]
    parts += [f"\n{answer(comparison)} [..]: 95 % interval of the change.\n"]
    if comparison.points:
        parts += ["\n", to_text(differences(comparison))]
    if comparison.others is not None:
        parts += ["\nOther answers:\n", to_text(comparison.others)]
    lone = lone_points(comparison)
    if lone is not None:
        parts += ["\nOnly in one of them:\n", to_text(lone)]
    parts += ["\n" if judged else "", *(f"{line}\n" for one in judged for line in verdict_lines(one))]
    return "".join(parts)


def verdict_lines(judged: Judged) -> list[str]:
    """How a condition came out, in words."""
    text = judged.condition.text
    notes = [f"judged at {judged.judged} points"]
    notes += [f"{judged.untold} have too few samples"] if judged.untold else []
    notes += [f"{judged.doubtful} are invalid"] if judged.doubtful else []
    if judged.met_at:
        return [f"FAIL {text}: {point.name}: {change_text(change)}" for point, change in judged.met_at]
    return [f"{'pass' if judged.judged else 'CANNOT TELL'} {text} ({'; '.join(notes)})"]


def write_comparison(comparison: Comparison, judged: Sequence[Judged], target: Path) -> Path:
    """report.html, pictures and tables into a folder; the answer is the page's path. Raises OutputError or InstallationError."""
    made = {
        "differences": differences(comparison),
        "others": comparison.others,
        "only_in_one": lone_points(comparison),
    }
    foot = f"dlserve comparison · A: {comparison.a.folder}, {moment(comparison.a.started)} · B: {comparison.b.folder}, {moment(comparison.b.started)}"
    with report_folder(target) as folder:
        pictures = draw_changes(comparison, Frame(foot, comparison.stamps), folder / PICTURES_FOLDER)
        values = {
            "comparison": comparison,
            "sides": (comparison.a, comparison.b),
            "answer": answer(comparison),
            "warnings": comparison.warnings,
            "verdicts": [(one, verdict_lines(one)) for one in judged],
            "moment": moment,
            "tables": made,
            "pictures": pictures,
            "colors": phase_colors([point.phase for point in comparison.points]),
            "paired": any(change.paired for _, change in comparison.changes),
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        }
        return complete(folder, render("compare.html", values), made.values(), pictures)


def _side_text(side: Side) -> str:
    stamps = f" {' '.join(side.stamps)}" if side.stamps else ""
    return f"{side.letter}: {side.folder} ({moment(side.started)}; {side.hardware}; {side.software}){stamps}\n"


def untrusted(comparison: Comparison) -> list[Reason]:
    """Why no gate can be trusted to pass."""
    return [warning for warning in comparison.warnings if warning.code in {"invalid", "interrupted", "unfinished"}]
