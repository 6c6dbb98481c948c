"""A stream result folder becomes report.html, pictures and tables."""

from itertools import chain
from pathlib import Path

from dlclient.statistics import PERCENTILE_FLOORS

from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.stream import facts, tables
from dlreport.stream.breakdown import STAGES
from dlreport.stream.clocks import clocks
from dlreport.stream.comparison import amount, answer, offered, rates
from dlreport.stream.context import context
from dlreport.stream.limits import limits_table, source
from dlreport.stream.networks import networks, unpublished
from dlreport.stream.objectives import OUTCOMES, objectives_table, standing
from dlreport.stream.pictures import draw_all
from dlreport.stream.view import StreamView, load_stream
from dlreport.style import Frame, Picture, phase_colors
from dlreport.table import Table


def write_report(folder: Path, into: Path | None = None) -> Path:
    """Report on a stream result folder; the answer is the path of its page.

    Writes report.html, pictures/*.png, pictures/*.svg, tables/*.csv and tables/*.md beside the result, or `into` another
    folder. Equal results give equal files. Raises NotAResultError, OutputError or InstallationError.
    """
    view = load_stream(folder)
    made = {
        "objectives": objectives_table(view),
        "comparison": tables.comparison(view),
        "clocks": clocks(view),
        "stages": tables.stages(view),
        "phases": tables.phases(view),
        "failures": tables.failures(view),
        "limits": limits_table(view),
        "published": context(view),
        "networks": networks(view),
    }
    with report_folder(into or folder) as target:
        drawn = draw_all(view, _frame(view), target / PICTURES_FOLDER)
        return complete(target, _page(view, made, drawn), made.values(), chain(*drawn.values()))


def _frame(view: StreamView) -> Frame:
    """Where a picture is from, and what nobody may overlook who sees only the picture."""
    run = view.run
    load = run.plan.load if view.is_open else f"{run.plan.users} users"
    foot = (
        f"dlserve stream · {moment(run.started)} · seed {run.plan.seeds} · {load} · plan {run.plan.sha256[:10]}"
        f" · {facts.hardware(run) or 'hardware not told'}"
    )
    return Frame(foot, stamps(view))


def stamps(view: StreamView) -> tuple[str, ...]:
    """Words across every picture of a run whose figures are no measurements to quote."""
    run = view.run
    said = {"SIMULATED": run.simulated, "INVALID": run.verdict == "invalid", "INTERRUPTED": run.interrupted}
    return tuple(word for word, is_so in said.items() if is_so)


def _page(view: StreamView, made: dict[str, Table | None], drawn: dict[str, list[Picture]]) -> str:
    return render(
        "stream.html",
        {
            "run": view.run,
            "view": view,
            "warnings": (*view.run.warnings, *view.remarks),
            "answer": answer(view),
            "rates": rates(view),
            "offered": offered(view),
            "standing": standing(view),
            "outcomes": OUTCOMES,
            "amount": amount(view),
            "started": moment(view.run.started),
            "hardware": facts.hardware(view.run),
            "software": facts.software(view.run),
            "tables": made,
            "pictures": drawn,
            "facts": facts.facts(view.run),
            "left_out": facts.left_out(view.run),
            "limits_source": source(view),
            "unpublished": unpublished(view),
            "server_json": facts.server_json(view.run),
            "stages": STAGES,
            "floors": PERCENTILE_FLOORS,
            "colors": phase_colors([phase.name for phase in view.phases]),
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        },
    )
