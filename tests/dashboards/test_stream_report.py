"""The report of a stream run, from result folders whose figures are known beforehand."""

import base64
import csv
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from dlclient.results import Reason
from dlreport.errors import NotAResultError, OutputError
from dlreport.stream import write_report

from tests.dashboards.conftest import StreamResult, drawn, failed, record

MEDIANS_S = {"resnet18": 0.03, "squeezenet1_1": 0.01}
COLD_S = {"resnet18": 0.06, "squeezenet1_1": 0.013}
VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{",
    "a|b\nc `d`",
    "=cmd()",
    "{{ 7*7 }}",
)


class Page(HTMLParser):
    """Reads a page strictly: tags must be closed in order. Collects what it refers to and what it says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.pictures: list[tuple[str, bytes]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values), values
        self.references += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action", "data") and value
        ]
        if tag == "img":
            head, _, body = (values["src"] or "").partition(",")
            assert head == "data:image/svg+xml;base64"
            self.pictures.append((values["alt"] or "", base64.b64decode(body)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def figures(folder: Path, table: str = "comparison") -> dict[tuple[str, str], dict[str, str]]:
    """A CSV's rows by model and phase."""
    with (folder / "tables" / f"{table}.csv").open(newline="") as lines:
        return {(row["model"], row["phase"]): row for row in csv.DictReader(lines)}


def two_phases(number: int = 80) -> StreamResult:
    """A run of both phases, as it should be."""
    services = tuple(MEDIANS_S)
    return StreamResult(
        {"warm": drawn("warm", number, services, MEDIANS_S), "disk": drawn("disk", number, services, COLD_S)}
    )


def known() -> StreamResult:
    """Seven good answers and a failed one; what must come of them is computed by hand in the test."""
    warm = [
        record("warm", 0, 0.00, 0.010, "a"),
        record("warm", 1, 0.01, 0.020, "a"),
        record("warm", 2, 0.03, 0.030, "a"),
        record("warm", 3, 0.06, 0.100, "b"),
    ]
    disk = [
        record("disk", 0, 0.00, 0.040, "a"),
        record("disk", 1, 0.04, 0.060, "a"),
        failed("disk", 2, 0.10, "a", 503, "Unavailable"),
        record("disk", 3, 0.10, 0.200, "b"),
    ]
    return StreamResult({"warm": warm, "disk": disk}, ("a", "b"), {"a": 100_000_000, "b": 300_000_000})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the known run, reported on."""
    folder = known().write(tmp_path_factory.mktemp("known"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a valid run of both phases, reported on."""
    folder = two_phases().write(tmp_path_factory.mktemp("plain"))
    write_report(folder)
    return folder


def made(folder: Path) -> dict[str, str]:
    """The digest of every file of a report."""
    paths = [folder / "report.html", *folder.glob("pictures/*"), *folder.glob("tables/*")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def pictures_differ(one: Path, other: Path) -> bool:
    """Whether both have all five pictures and none is the same."""
    names = sorted(path.name for path in one.glob("pictures/*.png"))
    assert len(names) == 5
    return all((one / "pictures" / name).read_bytes() != (other / "pictures" / name).read_bytes() for name in names)


def test_the_figures_are_those_computed_by_hand(folder: Path) -> None:
    found = figures(folder)
    expected = {
        # requests, errors, mean, cold/warm, images/s, wall/image, weights
        ("all models", "warm"): (4, 0, 0.160 / 4, None, 4 / 0.16, 0.16 / 4, 400e6),
        ("all models", "cold from disk"): (4, 1, 0.300 / 3, 2.5, 3 / 0.3, 0.3 / 3, 400e6),
        ("a", "warm"): (3, 0, 0.020, None, 3 / 0.06, 0.06 / 3, 100e6),
        ("a", "cold from disk"): (3, 1, 0.050, 2.5, 2 / 0.1125, 0.1125 / 2, 100e6),  # 0.3 s x 0.12 s of 0.32 s waited
        ("b", "warm"): (1, 0, 0.100, None, 1 / 0.1, 0.1, 300e6),
        ("b", "cold from disk"): (1, 0, 0.200, 2.0, 1 / 0.1875, 0.1875, 300e6),
    }
    assert found.keys() == expected.keys()
    columns = ("requests", "errors", "mean_s", "cold_over_warm", "images_per_s", "wall_s_per_image", "weights_bytes")
    for key, values in expected.items():
        for column, value in zip(columns, values, strict=True):
            cell = found[key][column]
            assert (float(cell) if cell else None) == (pytest.approx(value) if value is not None else None), (
                key,
                column,
            )
    assert found["a", "cold from disk"]["load_bytes_per_s"] == "", "three warm requests are too few to compare with"
    assert found["a", "warm"]["load_bytes_per_s"] == ""


def test_percentiles_that_so_few_samples_cannot_tell_are_not_given(folder: Path) -> None:
    row = figures(folder)["a", "cold from disk"]
    assert (row["p50_s"], row["p90_s"], row["p99_s"]) == ("", "", "")
    assert "n/a (n=2)" in (folder / "tables/comparison.md").read_text()
    assert "n/a (n=2)" in Page(folder / "report.html").text


def test_percentiles_are_given_from_their_floor_on(tmp_path: Path) -> None:
    records = [record("warm", index, index * 0.1, (index + 1) / 1000, "a") for index in range(64)]
    folder = StreamResult({"warm": records}, ("a",), {}).write(tmp_path)
    write_report(folder)
    row = figures(folder)["a", "warm"]
    assert [float(row["p50_s"]), float(row["p90_s"])] == pytest.approx([0.032, 0.058])
    assert row["p99_s"] == ""


def test_without_a_warm_phase_nothing_is_called_cold_over_warm(tmp_path: Path) -> None:
    services = tuple(MEDIANS_S)
    phases = {"host": drawn("host", 20, services, MEDIANS_S), "disk": drawn("disk", 20, services, COLD_S)}
    folder = StreamResult(phases).write(tmp_path)
    text = Page(write_report(folder)).text
    assert "cold / warm" not in text
    assert "Warm and cold compared" not in text
    assert "there is no warm phase to compare with" in text
    assert "cold_over_warm" not in (folder / "tables/comparison.csv").read_text()
    row = figures(folder)["resnet18", "cold from disk"]
    assert row["load_bytes_per_s"] == ""
    assert "Cold against warm" not in "".join(alt for alt, _ in Page(folder / "report.html").pictures)


def test_stages_and_the_rest_add_up_to_the_latency(folder: Path) -> None:
    row = figures(folder, "stages")["a", "cold from disk"]
    stages = [float(value) for name, value in row.items() if name.endswith("_s") and name not in ("mean_s", "rest_s")]
    assert float(row["load_s"]) == pytest.approx(0.020)
    assert float(row["rest_s"]) == pytest.approx(0.005)
    assert sum(stages) + float(row["rest_s"]) == pytest.approx(float(row["mean_s"]))


def test_the_page_answers_the_question_first_and_then_shows_everything(folder: Path) -> None:
    page = Page(folder / "report.html")
    order = [
        "Valid run.",
        "Warm 40.0 ms, cold from disk 100 ms at the mean: 2.5 x.",
        "Warm and cold compared",
        "Distribution of the latencies",
        "Where the time goes",
        "Over time",
        "What was checked",
        "Requests that failed",
        "Published stream figures",
        "How it was measured",
        "Definitions",
    ]
    text = page.text[page.text.index("</title>") if "</title>" in page.text else 0 :]
    body = text[text.index("Valid run.") :]
    positions = [body.index(part) for part in order]
    assert positions == sorted(positions)


def test_the_page_says_how_it_was_measured(folder: Path) -> None:
    text = Page(folder / "report.html").text
    for fact in (
        "cd" * 32,
        "ab" * 32,
        "Example CPU 8000",
        "torch 2.15.0",
        "predicted",
        "6.1.0",
        "0123456789abcdef",
        "locust 2.47.0",
    ):
        assert fact in text, fact
    for term in ("seed", "users", "CPU governor", "timed scope", "p50 needs 12 answers, p90 64, p99 662"):
        assert term in text, term


def test_the_engines_named_are_those_of_the_streamed_services(plain: Path, folder: Path) -> None:
    software = {path: Page(path / "report.html").text for path in (plain, folder)}
    assert "dlserve 0.1.0, torch 2.15.0" in software[plain]
    assert "dlserve 0.1.0, torch 2.15.0, simulated" not in software[plain]
    assert "dlserve 0.1.0, torch 2.15.0, simulated" in software[folder]  # its services are not in /info: all are named
    assert "unavailable" not in software[folder].partition("All that the server told")[0]


def test_the_page_refers_to_nothing_outside_itself(folder: Path) -> None:
    page = Page(folder / "report.html")
    assert page.references
    assert all(reference.startswith("data:") for reference in page.references)
    assert "script" not in page.tags
    assert not re.search(r"@import|url\(|@font-face", page.source)
    for _, svg in page.pictures:
        references = re.findall(r'(?:href|src)="([^"]*)"', svg.decode())
        assert all(reference.startswith(("#", "data:")) for reference in references)
        assert "<script" not in svg.decode()


def test_every_picture_is_in_the_page_with_words_and_lies_beside_it_in_both_formats(folder: Path) -> None:
    page = Page(folder / "report.html")
    files = sorted(path.name for path in (folder / "pictures").iterdir())
    names = ["distributions", "models", "stages-1-warm", "stages-2-disk", "timeline"]
    assert files == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    assert {svg for _, svg in page.pictures} == {(folder / f"pictures/{name}.svg").read_bytes() for name in names}
    assert all(len(alt) > 30 for alt, _ in page.pictures)
    for name in names:
        assert (folder / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_tables_lie_beside_the_page_in_both_formats(folder: Path) -> None:
    files = sorted(path.name for path in (folder / "tables").iterdir())
    names = ["clocks", "comparison", "failures", "phases", "published", "stages"]
    assert files == sorted(f"{name}.{kind}" for name in names for kind in ("csv", "md"))


def test_published_figures_stand_beside_this_runs_with_hardware_class_and_scope(folder: Path) -> None:
    with (folder / "tables/published.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    walls = [row for row in rows if row["figure"] == "wall time per image"]
    assert [(row["source"], row["hardware"], row["comparability"], row["timed_scope"]) for row in walls] == [
        ("this run", "2 x Example CPU 8000", "", "client"),
        ("this run", "2 x Example CPU 8000", "", "client"),
        ("cortex (published)", "8x GTX 1080 Ti", "B", "device"),
        ("cortex (published)", "8x GTX 1080 Ti", "B", "device"),
    ]
    assert [float(row["value"]) for row in walls] == pytest.approx([40.0, 100.0, 3.16, 113.3])
    assert all("other, older hardware" in row["remark"] for row in rows if row["source"] != "this run")
    ratios = {row["source"]: float(row["value"]) for row in rows if row["figure"].startswith("cold / warm")}
    assert ratios == {"this run": pytest.approx(2.5), "cortex (published)": pytest.approx(113.3 / 3.16)}
    text = Page(folder / "report.html").text
    assert "other, older hardware" in text
    assert "beaten" not in text
    assert "faster than" not in text


def test_equal_results_give_equal_files(plain: Path, tmp_path: Path) -> None:
    again = two_phases().write(tmp_path)
    write_report(again)
    assert len(made(plain)) == 1 + 10 + 12
    assert made(again) == made(plain)


def test_a_report_can_be_written_elsewhere_and_leaves_the_result_alone(tmp_path: Path) -> None:
    folder = two_phases(5).write(tmp_path / "result")
    before = sorted(path.name for path in folder.iterdir())
    assert write_report(folder, tmp_path / "elsewhere") == tmp_path / "elsewhere/report.html"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_invalid_run_says_so_with_each_reason_and_its_cure_and_stamps_its_pictures(
    plain: Path, tmp_path: Path
) -> None:
    reasons = (
        Reason("errors", "3 of 80 requests failed", "see the server's log"),
        Reason("incomplete", "2 not sent", "run again"),
    )
    folder = replace(two_phases(), reasons=reasons).write(tmp_path)
    text = Page(write_report(folder)).text
    assert "Invalid run: do not quote its figures." in text
    assert "Valid run." not in text
    for reason in reasons:
        assert reason.text in text
        assert reason.cure in text
    assert pictures_differ(folder, plain)


def test_a_simulated_device_is_in_the_page_and_on_every_picture(plain: Path, tmp_path: Path) -> None:
    folder = replace(two_phases(), simulated=True).write(tmp_path)
    assert "Simulated device." in Page(write_report(folder)).text
    assert "Simulated device." not in Page(plain / "report.html").text
    assert pictures_differ(folder, plain)


def test_an_interrupt_is_in_the_page_and_on_every_picture(plain: Path, tmp_path: Path) -> None:
    folder = replace(two_phases(), interrupted=True).write(tmp_path)
    assert "Interrupted." in Page(write_report(folder)).text
    assert "Interrupted." not in Page(plain / "report.html").text
    assert pictures_differ(folder, plain)


def test_warnings_stand_in_the_page_with_their_cures(tmp_path: Path) -> None:
    warning = Reason("cpu-governor", "the CPU governor is powersave", "set it to performance")
    text = Page(write_report(replace(two_phases(5), warnings=(warning,)).write(tmp_path))).text
    assert "Every check that the load tester makes has passed, with warnings." in text
    assert warning.text in text
    assert warning.cure in text


def test_a_server_that_tells_nothing_gives_a_report_in_which_that_is_missing_not_zero(tmp_path: Path) -> None:
    silent = {"stages": None, "cache": None, "worker": None, "batch_size": None, "server_s": None}
    phases = {
        phase: [record(phase, index, index * 0.01, latency_s, "a", **silent) for index in range(20)]
        for phase, latency_s in (("warm", 0.01), ("disk", 0.02))
    }
    folder = StreamResult(phases, ("a",), {}, info={}).write(tmp_path)
    page = Page(write_report(folder))
    assert "missing: the server does not tell its stages" in page.text
    assert "missing: the server does not tell" in (folder / "tables/phases.md").read_text()
    assert not (folder / "tables/stages.csv").exists()
    row = figures(folder)["a", "cold from disk"]
    assert (row["weights_bytes"], row["load_bytes_per_s"]) == ("", "")
    assert "missing |" in (folder / "tables/comparison.md").read_text()
    assert "The server does not tell what it runs on." in page.text
    assert len(page.pictures) == 3


def test_a_service_that_nobody_asked_for_anything_has_a_row_without_figures(tmp_path: Path) -> None:
    folder = StreamResult({"warm": [record("warm", 0, 0.0, 0.01, "a")]}, ("a", "idle"), {}).write(tmp_path)
    write_report(folder)
    row = figures(folder)["idle", "warm"]
    assert (row["requests"], row["mean_s"], row["images_per_s"]) == ("0", "", "")
    assert "n/a (n=0)" in (folder / "tables/comparison.md").read_text()


def test_a_run_of_errors_only_says_what_went_wrong(tmp_path: Path) -> None:
    phases = {
        "warm": [failed("warm", index, index * 0.01, "a") for index in range(5)],
        "disk": [failed("disk", index, index * 0.01, "a", 0, "connection refused") for index in range(5)],
    }
    folder = StreamResult(phases, ("a",), {}, reasons=(Reason("errors", "10 of 10 failed", "see the log"),)).write(
        tmp_path
    )
    page = Page(write_report(folder))
    assert "No request got a good answer, so there is no figure." in page.text
    assert "connection refused" in page.text
    assert "no answer" in page.text
    assert [alt for alt, _ in page.pictures] == [
        "Latency over time. warm: 0 answered, 5 failed (crosses); cold from disk: 0 answered, 5 failed (crosses)."
    ]


def test_a_run_that_ended_before_its_first_phase_still_has_a_page(tmp_path: Path) -> None:
    result = StreamResult({}, interrupted=True, reasons=(Reason("interrupted", "stopped", "run it again in full"),))
    page = Page(write_report(result.write(tmp_path)))
    assert "The run ended before its first phase" in page.text
    assert "run it again in full" in page.text
    assert page.pictures == []


def test_an_interrupted_run_with_a_torn_last_line_is_reported_with_a_warning(tmp_path: Path) -> None:
    folder = replace(two_phases(20), interrupted=True).write(tmp_path)
    path = folder / "requests.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    text = Page(write_report(folder)).text
    assert "run.json counts 20 requests in phase disk, requests.jsonl holds 19" in text


def test_a_single_request_to_a_single_model_is_enough(tmp_path: Path) -> None:
    page = Page(write_report(StreamResult({"warm": [record("warm", 0, 0.0, 0.01, "a")]}, ("a",), {}).write(tmp_path)))
    assert "Warm 10.0 ms at the mean; there is no other phase to compare it with." in page.text
    assert len(page.pictures) == 4


def test_a_latency_of_zero_breaks_no_logarithm(tmp_path: Path) -> None:
    records = [record("warm", index, 0.0, 0.0, "a") for index in range(3)]
    write_report(StreamResult({"warm": records}, ("a",), {}).write(tmp_path))


def test_forty_models_are_drawn_and_the_rest_left_to_the_table(tmp_path: Path) -> None:
    services = tuple(f"a_model_with_a_rather_long_name_{number}" for number in range(50))
    records = [record("warm", index, index * 0.1, 0.001 * (index + 1), model) for index, model in enumerate(services)]
    page = Page(write_report(StreamResult({"warm": records}, services, {}).write(tmp_path)))
    (alt,) = (alt for alt, _ in page.pictures if alt.startswith("Latency, model by model"))
    assert alt.count(" ms") == 40
    assert "a_model_with_a_…ng_name_49" in alt
    assert services[0] in page.text


def test_hostile_names_are_shown_as_text_and_do_no_harm(tmp_path: Path) -> None:
    cold = [record("disk", index, index * 0.1, 0.02, model) for index, model in enumerate(HOSTILE * 3)]
    cold.append(failed("disk", 99, 2.0, HOSTILE[0], 500, "<b>bold</b> ${7*7}"))
    phases = {
        "warm": [record("warm", index, index * 0.1, 0.01, model) for index, model in enumerate(HOSTILE * 3)],
        "disk": cold,
    }
    info: dict[str, object] = {
        "version": "<script>alert(2)</script>",
        "dlserve": {"workers": "none", "engines": ["odd"]},
    }
    folder = StreamResult(
        phases, HOSTILE, {}, info=info, warnings=(Reason("<i>", "<script>x</script>", "</ul>"),)
    ).write(tmp_path)  # fmt: skip
    page = Page(write_report(folder))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("img") == len(page.pictures) == 5
    for text in (*HOSTILE, "<b>bold</b> ${7*7}", "<script>alert(2)</script>"):
        assert text in page.text
    with (folder / "tables/comparison.csv").open(newline="") as lines:
        models = {row["model"] for row in csv.DictReader(lines)}
    assert {*HOSTILE[:4], "'=cmd()"} < models
    assert all(line.startswith("|") for line in (folder / "tables/comparison.md").read_text().splitlines()[2:])


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path) -> None:
    folder = two_phases(5).write(tmp_path)
    path = folder / "requests.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b'{"phase": "warm"}\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(NotAResultError, match=r"requests\.jsonl:4: .*restore the file or measure again"):
        write_report(folder)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = two_phases(5).write(tmp_path / "result")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="name a folder that can be written"):
        write_report(folder, tmp_path / "file")
