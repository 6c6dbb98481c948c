"""The folder of a comparison of policies becomes report.html, pictures and tables."""

from itertools import chain
from pathlib import Path

from dlreport.balance import answer, tables
from dlreport.balance.pictures import draw_all
from dlreport.balance.view import BalanceView, load_balance
from dlreport.files import PICTURES_FOLDER, TABLES_FOLDER, complete, report_folder
from dlreport.page import render
from dlreport.quantity import count, moment, significant
from dlreport.stream.facts import Facts, environment
from dlreport.style import Frame


def write_balance_report(folder: Path, into: Path | None = None) -> Path:
    """Report on a comparison's result folder; the answer is the path of its page.

    Writes report.html, pictures/*.png, pictures/*.svg, tables/*.csv and tables/*.md beside the result, or `into` another
    folder. Equal results give equal files. Raises NotAResultError, OutputError or InstallationError.
    """
    view = load_balance(folder)
    made = {
        "contests": tables.contests_table(view),
        "agreement": tables.agreement_table(view),
        "cells": tables.cells_table(view),
        "profiles": tables.profiles_table(view),
        "failures": tables.failures_table(view),
    }
    balance = view.balance
    with report_folder(into or folder) as target:
        drawn = draw_all(view, Frame(_foot(view), answer.stamps(view)), target / PICTURES_FOLDER)
        values = {
            "view": view,
            "balance": balance,
            "answer": answer.answer(view),
            "lead": answer.lead(view),
            "agreement": answer.agreement(view),
            "amount": f"{count(len(view.good))} of {count(balance.cells)} cells",
            "started": moment(balance.started),
            "tables": made,
            "pictures": drawn,
            "facts": _facts(view),
            "pictures_folder": PICTURES_FOLDER,
            "tables_folder": TABLES_FOLDER,
        }
        return complete(target, render("balance.html", values), made.values(), chain(*drawn.values()))


def _foot(view: BalanceView) -> str:
    balance = view.balance
    return f"dlbench balance · seed {balance.seed} · times x {balance.scale:g} · {moment(balance.started)} · {balance.environment.host}"


def _facts(view: BalanceView) -> tuple[Facts, ...]:
    balance = view.balance
    return (
        Facts(
            "The comparison",
            (
                ("command", " ".join(balance.command)),
                ("seed", str(balance.seed)),
                ("policies", ", ".join(view.policies)),
                ("times", f"the published ones x {balance.scale:g}"),
                ("bandwidth of a load", f"{significant(balance.bandwidth / 1e9)} GB/s, before that factor"),
                (
                    "requests of a cell",
                    f"{count(balance.requests)} for each 8 workers; in processes {count(balance.real_requests)}",
                ),
                (
                    "runs in processes",
                    f"up to {balance.real_rounds} of a cell, another while they differ too much to tell a tenth",
                ),
                ("not counted", f"what was due in the first {balance.settling_s:g} s"),
            ),
        ),
        Facts("The machine that ran it", environment(balance.environment)),
    )
