"""The `dlreport` command: a result folder in, a report out."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from dlreport.errors import NotAResultError, ReportError

_RUN_FILE = "run.json"
_SEARCH_FILE = "search.json"
_SEARCH = "search"

_EPILOG = """\
examples:
  dlreport results/demo                    the report lands beside the result
  dlreport results/demo -o /tmp/report     or elsewhere; the result folder is only read
  dlreport results/search-20260101-120000  a search for a rate (--find-rate): its curve, and the run that confirmed it

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


_WRITERS: Mapping[str, Callable[[Path, Path | None], Path]] = {
    "stream": _write_stream,
    "bench": _write_bench,
    _SEARCH: _write_search,
}
"""What a result is -> who reports on it: `kind` in run.json; a search where there is a search.json."""


class _Kind(msgspec.Struct):
    kind: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="dlreport",
        description="Turn a result folder into one HTML page, pictures and tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "result", metavar="RESULT", type=Path, help=f"a result folder: it holds a {_RUN_FILE}, or a {_SEARCH_FILE}"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="write the report here (default: RESULT)")
    options = parser.parse_args(arguments)
    try:
        page = _WRITERS[_kind(options.result)](options.result, options.output)
    except ReportError as exc:
        print(f"dlreport: {exc}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _kind(folder: Path) -> str:
    """What kind of result a folder holds. Raises NotAResultError."""
    try:
        what = "" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    except OSError as exc:  # too long a name, or no permission to look
        raise NotAResultError(f"cannot look at {folder}: {exc.strerror}; name the folder of a result") from exc
    if what:
        raise NotAResultError(f"{folder} {what}; name the folder that the load tester wrote (it holds {_RUN_FILE})")
    path = folder / _RUN_FILE
    if not path.exists() and (folder / _SEARCH_FILE).exists():
        return _SEARCH
    try:
        kind = msgspec.json.decode(path.read_bytes(), type=_Kind).kind
    except FileNotFoundError as exc:
        raise NotAResultError(
            f"{folder} is no result folder: it has no {_RUN_FILE}; name the folder that the load tester wrote"
        ) from exc
    except OSError as exc:
        raise NotAResultError(f"cannot read {path}: {exc.strerror}; make it readable") from exc
    except msgspec.DecodeError as exc:
        raise NotAResultError(f"{path} is damaged: {exc}; restore it or measure again") from exc
    if kind not in _WRITERS:
        raise NotAResultError(
            f"{path} says its kind is {kind!r}, this dlreport knows: {', '.join(_WRITERS)}; use the version that wrote it"
        )
    return kind


if __name__ == "__main__":
    sys.exit(main())
