"""`dlreport merge RESULT... -o DIR`: results of several machines, or several set-ups, side by side."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dlreport.errors import ReportError
from dlreport.kinds import same_kind

Writer = Callable[[Path, Path | None], Path]

_EPILOG = """\
examples:
  dlreport merge results/laptop results/h100 -o results/both
  dlreport merge results/1 results/2 results/4 -o results/workers --names "1 worker,2 workers,4 workers"

All results are streams, or all are benches. Benches become one bench result in DIR (which must be new or empty): each point's
device is named with its machine, and the report is a bench's report, with the machines side by side. Streams become a
page with a table of all results; where they differ in nothing but their number of workers, also how throughput grows with it.
What is simulated or invalid stays stamped so.

exit status: 0 the report was written; 1 it was not, and why is said; 2 the command line was wrong.
"""


def main(arguments: Sequence[str], writers: Mapping[str, Writer]) -> int:
    """Entry point; `writers`: who reports on what kind of result. Returns the exit status."""
    options = _parser().parse_args(arguments)
    names = [name.strip() for name in options.names.split(",")] if options.names is not None else None
    try:
        page = _merge([*options.results], options.output, names, writers)
    except ReportError as exc:
        print(f"dlreport: {exc}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _merge(folders: Sequence[Path], target: Path, names: Sequence[str] | None, writers: Mapping[str, Writer]) -> Path:
    kind = same_kind(folders, tuple(writers))
    if kind == "bench":
        from dlreport.merge.benches import merge_benches  # noqa: PLC0415  each brings only what it needs

        return writers[kind](merge_benches(folders, target, names), None)
    if kind == "stream":
        from dlreport.merge.report import write_streams  # noqa: PLC0415  as above: this one matplotlib

        return write_streams(folders, target, names)
    raise ReportError(f"{folders[0]} is a {kind}; merge takes streams or benches: name the folders of its runs")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlreport merge",
        description="Set results of several machines side by side.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", metavar="RESULT", type=Path, nargs="+", help="result folders of one kind")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="write the merged report here")
    parser.add_argument(
        "--names", metavar="A,B,...", help="what to call each result, in their order (default: its machine's name)"
    )
    return parser
