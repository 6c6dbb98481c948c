"""The folder of a search becomes report.html, a picture and tables."""

from pathlib import Path

from dlclient.results import Run

from dlreport.files import PAGE_FILE, PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.page import render
from dlreport.quantity import count, moment
from dlreport.search import answer, tables
from dlreport.search.picture import draw_curve
from dlreport.search.view import SearchView, load_search
from dlreport.stream import facts, write_report
from dlreport.style import Frame


def write_search_report(folder: Path, into: Path | None = None) -> Path:
    """Report on the folder of a search, and on the run in it that confirmed the answer; the answer is the path of its page.

    Writes report.html, pictures/curve.png and .svg and tables/* beside search.json, or `into` another folder; the confirmation's
    own report into the folder of its name there. Raises NotAResultError, OutputError or InstallationError.
    """
    view = load_search(folder)
    made = {
        "confirmation": tables.confirmation_table(view),
        "curve": tables.curve_table(view),
        "probes": tables.probes_table(view),
    }
    confirmation = view.confirmation
    with report_folder(into or folder) as target:
        if confirmation is not None:
            write_report(folder / confirmation.name, target / confirmation.name)
        pictures = draw_curve(view, Frame(_foot(view), answer.stamps(view)), target / PICTURES_FOLDER)
        run = view.first_run
        values = {
            "view": view,
            "result": view.result,
            "answer": answer.answer(view),
            "banner": answer.banner(view.result),
            "amount": f"{count(view.result.probes)} runs, {count(view.result.requests)} requests",
            "started": moment(run.started) if run else "",
            "hardware": facts.hardware(run) if run else "",
            "confirmation_page": f"{confirmation.name}/{PAGE_FILE}" if confirmation else "",
            "tables": made,
            "pictures": pictures,
            "facts": [one for one in facts.facts(run) if one.title != "The run"] if run else [],
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        }
        return complete(target, render("search.html", values), made.values(), pictures)


def _foot(view: SearchView) -> str:
    run: Run | None = view.first_run
    if run is None:
        return "dlserve search for a rate"
    return f"dlserve search for a rate · {moment(run.started)} · {facts.hardware(run) or 'hardware not told'}"
