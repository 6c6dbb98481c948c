"""A bench's result folder becomes report.html, pictures and tables."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from itertools import chain
from pathlib import Path

from dlclient.statistics import PERCENTILE_FLOORS

from dlreport.bench import answer
from dlreport.bench.beside import deepdetect_rows
from dlreport.bench.busy import busy_table
from dlreport.bench.cost_table import cost_table
from dlreport.bench.facts import facts
from dlreport.bench.grid import gain_table, times_table
from dlreport.bench.largest import largest_table
from dlreport.bench.loads import load_table
from dlreport.bench.pictures import draw_all
from dlreport.bench.points_table import doubts_table, failures_table, points_table
from dlreport.bench.published_table import published_table
from dlreport.bench.right import accuracy_table, tradeoff_table
from dlreport.bench.sweep import sweep_table
from dlreport.bench.view import BenchView, load_bench
from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.style import Frame, Picture
from dlreport.table import Table

_SCRIPT = "sortable.js"


def write_bench_report(folder: Path, into: Path | None = None) -> Path:
    """Report on a bench's result folder; the answer is the path of its page.

    Writes report.html, pictures/*.png, pictures/*.svg, tables/*.csv and tables/*.md beside the result, or `into` another
    folder. Equal results give equal files. Raises NotAResultError, OutputError or InstallationError.
    """
    view = load_bench(folder)
    made = tables(view)
    with report_folder(into or folder) as target:
        drawn = draw_all(view, frame(view), target / PICTURES_FOLDER)
        return complete(target, _page(view, made, drawn), made.values(), chain(*drawn.values()))


def tables(view: BenchView) -> dict[str, Table | None]:
    """By name; None where the bench has nothing for one."""
    return {
        "times": times_table(view),
        "gain": gain_table(view),
        "cost": cost_table(view),
        "largest": largest_table(view),
        "accuracy": accuracy_table(view),
        "tradeoff": tradeoff_table(view),
        "utilization": busy_table(view),
        "sweeps": sweep_table(view),
        "loads": load_table(view),
        "published": published_table(view),
        "points": points_table(view),
        "failures": failures_table(view),
        "doubts": doubts_table(view),
    }


def frame(view: BenchView) -> Frame:
    """Where a picture is from, and what nobody may overlook who sees only the picture."""
    bench = view.bench
    machine = bench.environment
    devices = ", ".join(dict.fromkeys((machine.cpu_model, *(gpu.name for gpu in machine.gpus))))
    foot = f"dlserve {bench.program} · {bench.name} · {moment(bench.started)} · {machine.host}: {devices}"
    return Frame(foot, answer.stamps(view))


def _page(view: BenchView, made: Mapping[str, Table | None], drawn: Mapping[str, list[Picture]]) -> str:
    script = (files("dlreport") / "templates" / _SCRIPT).read_text(encoding="utf-8")
    warnings = [(point, reason) for point in view.good for reason in point.warnings]
    return render(
        "bench.html",
        {
            "bench": view.bench,
            "view": view,
            "answer": answer.answer(view),
            "lead": answer.lead(view),
            "amount": answer.amount(view),
            "warned": len({point.id for point, _ in warnings}),
            "started": moment(view.bench.started),
            "tables": made,
            "pictures": drawn,
            "facts": facts(view),
            "published_times": bool(deepdetect_rows(view)),
            "floors": PERCENTILE_FLOORS,
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
            "script": script,
            "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        },
    )
