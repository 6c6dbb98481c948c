"""A result of `make bench` becomes report.html, pictures and tables."""

from pathlib import Path

from dlclient.errors import ResultError
from dlclient.serving_result import Serving, read_serving

from dlreport.errors import NotAResultError
from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.serving import tables
from dlreport.serving.answer import answer
from dlreport.serving.pictures import draw
from dlreport.stream import facts
from dlreport.style import Frame


def write_serving_report(folder: Path, into: Path | None = None) -> Path:
    """Report on a folder that `make bench` or `make bench-peers` wrote; the answer is the path of the page.

    Raises NotAResultError, OutputError or InstallationError.
    """
    try:
        result = read_serving(folder)
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    made = {
        "ratios": tables.ratios_table(result),
        "stages": tables.stages_table(result),
        "measured": tables.measured_table(result),
    }
    foot = f"dlserve {result.title} · {moment(result.started)} · {hardware(result)}"
    with report_folder(into or folder) as target:
        pictures = draw(result, Frame(foot), target / PICTURES_FOLDER)
        values = {
            "result": result,
            "answer": answer(result),
            "started": moment(result.started),
            "hardware": hardware(result),
            "machine": facts.environment(result.environment),
            "tables": made,
            "pictures": pictures,
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        }
        return complete(target, render("serving.html", values), made.values(), pictures)


def hardware(result: Serving) -> str:
    """The machine, in a line."""
    machine = result.environment
    return f"{machine.host}: {machine.cpu_cores} cores of {machine.cpu_model}"
