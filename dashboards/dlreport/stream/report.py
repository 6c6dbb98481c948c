"""A stream result folder becomes report.html, pictures and tables."""

from pathlib import Path

from dlclient.statistics import PERCENTILE_FLOORS

from dlreport.errors import OutputError
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.stream import facts, tables
from dlreport.stream.breakdown import STAGES
from dlreport.stream.comparison import amount, answer, rates
from dlreport.stream.context import context
from dlreport.stream.limits import limits_table, source
from dlreport.stream.networks import networks, unpublished
from dlreport.stream.pictures import draw_all
from dlreport.stream.view import StreamView, load_stream
from dlreport.style import Frame, Picture, phase_colors
from dlreport.table import Table, to_csv, to_markdown

PAGE_FILE = "report.html"
PICTURES_FOLDER = "pictures"
TABLES_FOLDER = "tables"


def write_report(folder: Path, into: Path | None = None) -> Path:
    """Report on a stream result folder; the answer is the path of its page.

    Writes report.html, pictures/*.png, pictures/*.svg, tables/*.csv and tables/*.md beside the result, or `into` another
    folder. Equal results give equal files. Raises NotAResultError, OutputError or InstallationError.
    """
    view = load_stream(folder)
    made = {
        "comparison": tables.comparison(view),
        "stages": tables.stages(view),
        "phases": tables.phases(view),
        "failures": tables.failures(view),
        "limits": limits_table(view),
        "published": context(view),
        "networks": networks(view),
    }
    target = into or folder
    try:
        for part in (PICTURES_FOLDER, TABLES_FOLDER):
            (target / part).mkdir(parents=True, exist_ok=True)
        _write_tables(target / TABLES_FOLDER, made)
        drawn = draw_all(view, _frame(view), target / PICTURES_FOLDER)
        page = target / PAGE_FILE
        page.write_text(_page(view, made, drawn), encoding="utf-8")
    except OSError as exc:
        raise OutputError(
            f"cannot write the report into {target}: {exc.strerror or exc}; name a folder that can be written (-o DIR)"
        ) from exc
    return page


def _write_tables(folder: Path, made: dict[str, Table | None]) -> None:
    for table in made.values():
        if table is not None:
            (folder / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
            (folder / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")


def _frame(view: StreamView) -> Frame:
    """Where a picture is from, and what nobody may overlook who sees only the picture."""
    run = view.run
    foot = (
        f"dlserve stream · {moment(run.started)} · seed {run.plan.seeds} · {run.plan.users} users · plan {run.plan.sha256[:10]}"
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
            "amount": amount(view),
            "started": moment(view.run.started),
            "hardware": facts.hardware(view.run),
            "software": facts.software(view.run),
            "tables": made,
            "pictures": drawn,
            "facts": facts.facts(view.run),
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
