"""The `dlreport` command: a result folder in, a report out."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dlreport.errors import ReportError
from dlreport.kinds import RUN_FILE, SEARCH, SEARCH_FILE, kind_of

_EPILOG = """\
examples:
  dlreport results/demo                    the report lands beside the result
  dlreport results/demo -o /tmp/report     or elsewhere; the result folder is only read
  dlreport results/search-20260101-120000  a search for a rate (--find-rate): its curve, and the run that confirmed it
  dlreport results/a results/b -o pages    a report of each in pages/, and a page that leads to them
  dlreport compare results/a results/b     what differs, with intervals; --fail-on makes it a gate (dlreport compare --help)
  dlreport merge results/a results/b -o c  several machines side by side (dlreport merge --help)

A report is a page (report.html: one file, opens anywhere without a network), its pictures (pictures/: PNG and SVG) and its
tables (tables/: CSV with seconds and bytes, Markdown with the printed figures). The same result gives the same report.

exit status: 0 the report was written (of a valid or of an invalid run: the page says which); 1 it was not, and why is
said; 2 the command line was wrong.
"""


def _write_search(folder: Path, into: Path | None) -> Path:
    from dlreport.search import write_search_report  # noqa: PLC0415  as below

    return write_search_report(folder, into)


def _write_stream(folder: Path, into: Path | None) -> Path:
    from dlreport.stream import write_report  # noqa: PLC0415  brings matplotlib, which --help and errors need not wait for

    return write_report(folder, into)


def _write_bench(folder: Path, into: Path | None) -> Path:
    from dlreport.bench import write_bench_report  # noqa: PLC0415  as above

    return write_bench_report(folder, into)


def _write_balance(folder: Path, into: Path | None) -> Path:
    from dlreport.balance import write_balance_report  # noqa: PLC0415  as above

    return write_balance_report(folder, into)


def _write_serving(folder: Path, into: Path | None) -> Path:
    from dlreport.serving import write_serving_report  # noqa: PLC0415  as above

    return write_serving_report(folder, into)


_WRITERS: Mapping[str, Callable[[Path, Path | None], Path]] = {
    "stream": _write_stream,
    "bench": _write_bench,
    "balance": _write_balance,
    "serving": _write_serving,
    SEARCH: _write_search,
}
"""What a result is -> who reports on it: `kind` in run.json; a search where there is a search.json."""


def _compare(arguments: Sequence[str]) -> int:
    from dlreport.compare.cli import main as compare  # noqa: PLC0415  as above

    return compare(arguments)


def _merge(arguments: Sequence[str]) -> int:
    from dlreport.merge.cli import main as merge  # noqa: PLC0415  as above

    return merge(arguments, _WRITERS)


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"compare": _compare, "merge": _merge}
"""What may stand in place of the first result, and who does it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given and given[0] in _COMMANDS:
        return _COMMANDS[given[0]](given[1:])
    parser = argparse.ArgumentParser(
        prog="dlreport",
        description="Turn a result folder into one HTML page, pictures and tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results",
        metavar="RESULT",
        type=Path,
        nargs="+",
        help=f"a result folder: it holds a {RUN_FILE}, or a {SEARCH_FILE}; or compare, or merge (see their own --help)",
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, help="write the report here (default: RESULT; needed for several)"
    )
    options = parser.parse_args(given)
    if len(options.results) > 1 and options.output is None:
        parser.error("several results need a folder for the page that leads to their reports: -o DIR")
    try:
        page = _report(options.results, options.output)
    except ReportError as exc:
        print(f"dlreport: {exc}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _report(results: Sequence[Path], into: Path | None) -> Path:
    if into is None or len(results) == 1:
        return _WRITERS[kind_of(results[0], _WRITERS).kind](results[0], into)
    from dlreport.several import write_reports  # noqa: PLC0415  as above

    return write_reports(results, into, _WRITERS)


if __name__ == "__main__":
    sys.exit(main())
