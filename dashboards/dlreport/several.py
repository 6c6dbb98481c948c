"""Several results at once: a report of each in a folder of its own, and a page that leads to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dlclient.bench_result import read_bench, read_points
from dlclient.errors import ResultError
from dlclient.serving_result import read_serving

from dlreport.compare.benches import stamps as bench_stamps
from dlreport.errors import NotAResultError
from dlreport.files import PAGE_FILE, complete, report_folder
from dlreport.kinds import SEARCH, kind_of
from dlreport.page import render
from dlreport.quantity import moment
from dlreport.search.answer import answer as search_answer
from dlreport.search.answer import stamps as search_stamps
from dlreport.search.view import load_search
from dlreport.serving.answer import answer as serving_answer
from dlreport.serving.report import hardware as serving_hardware
from dlreport.stream import facts
from dlreport.stream.comparison import answer as stream_answer
from dlreport.stream.report import stamps as stream_stamps
from dlreport.stream.view import load_stream
from dlreport.table import Cell, Column, Row, Table, name

Writer = Callable[[Path, Path | None], Path]


@dataclass(frozen=True, slots=True)
class Entry:
    """One result on the page. `page`: of its own report, relative to the page that leads to it."""

    folder: Path
    kind: str
    page: str
    started: str
    answer: str
    hardware: str
    stamps: tuple[str, ...]

    @property
    def address(self) -> str:
        """`page` as a link."""
        return quote(self.page)


def write_reports(folders: Sequence[Path], target: Path, writers: Mapping[str, Writer]) -> Path:
    """Report on each into a folder of its name in `target`, and lead to all from one page; the answer is that page's path.

    All folders are looked at before anything is written. Raises NotAResultError, OutputError or InstallationError.
    """
    kinds = [kind_of(folder, tuple(writers)).kind for folder in folders]
    entries = [_entry(folder, kind, own) for folder, kind, own in zip(folders, kinds, _own_names(folders), strict=True)]
    table = _table(entries)
    with report_folder(target) as made:
        for entry in entries:
            writers[entry.kind](entry.folder, made / Path(entry.page).parent)
        return complete(made, render("several.html", {"entries": entries, "table": table}), [table], [])


def _own_names(folders: Sequence[Path]) -> list[str]:
    """A folder's name for each, numbered where two have the same."""
    seen: dict[str, int] = {}
    found = []
    for folder in folders:
        own = folder.resolve().name or "result"
        seen[own] = seen.get(own, 0) + 1
        found.append(own if seen[own] == 1 else f"{own}-{seen[own]}")
    return found


def _entry(folder: Path, kind: str, own: str) -> Entry:
    tell = _DIGESTS[kind]
    try:
        started, answer, hardware, stamps = tell(folder)
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    return Entry(folder, kind, f"{own}/{PAGE_FILE}", started, answer, hardware, stamps)


_Digest = tuple[str, str, str, tuple[str, ...]]


def _stream(folder: Path) -> _Digest:
    view = load_stream(folder)
    return view.run.started, stream_answer(view), facts.hardware(view.run), stream_stamps(view)


def _search(folder: Path) -> _Digest:
    view = load_search(folder)
    run = view.first_run
    return run.started if run else "", search_answer(view), facts.hardware(run) if run else "", search_stamps(view)


def _bench(folder: Path) -> _Digest:
    bench, points = read_bench(folder), read_points(folder)
    failed = sum(point.failure is not None for point in points)
    told = f"{bench.title}: {len(points)} of {bench.points} points" + (f", {failed} failed" if failed else "")
    machine = bench.environment
    devices = ", ".join(gpu.name for gpu in machine.gpus) or machine.cpu_model
    return bench.started, told, f"{machine.host}: {devices}", bench_stamps(bench, points)


def _serving(folder: Path) -> _Digest:
    result = read_serving(folder)
    return result.started, serving_answer(result), serving_hardware(result), ()


_DIGESTS: Mapping[str, Callable[[Path], _Digest]] = {
    "stream": _stream,
    SEARCH: _search,
    "bench": _bench,
    "serving": _serving,
}


def _table(entries: Sequence[Entry]) -> Table:
    columns = (
        Column("result", "result", numeric=False),
        Column("kind", "kind", numeric=False),
        Column("started", "started", numeric=False),
        Column("hardware", "hardware", numeric=False),
        Column("stamps", "not to quote", numeric=False),
        Column("answer", "what was found", numeric=False),
    )
    rows = tuple(
        Row(
            (
                name(str(entry.folder)),
                name(entry.kind),
                Cell(entry.started, moment(entry.started)),
                name(entry.hardware),
                Cell(", ".join(entry.stamps), ", ".join(entry.stamps), "error" if entry.stamps else ""),
                name(entry.answer),
            )
        )
        for entry in entries
    )
    return Table("results", "Results", columns, rows)
