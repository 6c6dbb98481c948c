"""What happened while a run went on: the series of the picture, and the picture."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from dlclient.timeline import SAMPLES_FILE, Note, Sample
from dlreport.errors import NotAResultError
from dlreport.stream import write_report
from dlreport.stream.through import panels, stretches
from dlreport.stream.view import load_stream

from tests.dashboards.conftest import StreamResult, client_sample, drawn, record, server_sample

START = 5000.0
NOTE = Note(t_s=START, source="http://server/metrics", note="no metrics: <b>gone</b>")


def result(samples: list[Sample | Note]) -> StreamResult:
    """Warm for 10 s with 2 requests a second, a pause of 5 s, then disk for 5 s with one."""
    warm = [record("warm", number, number / 2, 0.1, "a") for number in range(21)]
    disk = [record("disk", number, float(number), 0.1, "a") for number in range(6)]
    return StreamResult(
        {"warm": warm, "disk": disk},
        ("a",),
        {"a": 1_000_000},
        started={"warm": START, "disk": START + 15},
        samples=samples,
    )


def busy() -> list[Sample | Note]:
    """Half-hidden GPUs, two load generators, one idle worker."""
    lines: list[Sample | Note] = [NOTE]
    for second in range(-3, 25):
        at = START + second
        lines.append(client_sample(at, cpu_cores=0.25))
        lines.append(client_sample(at + 0.5, source="pid-2", cpu_cores=0.75))
        if not 8 <= second < 14:
            lines.append(
                server_sample(
                    at + 0.1, gpus=(0.2, 0.6), in_flight=4.0, batch_size=2.0, loads=3.0 if second > 15 else 0.0,
                    busy_by_worker={"0": 1.0, "1": 0.0}, cpu_cores=0.1,
                )
            )  # fmt: skip
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = result(busy()).write(tmp_path_factory.mktemp("through"))
    write_report(folder)
    return folder


def test_phases_lie_where_they_ran(folder: Path) -> None:
    shown = stretches(load_stream(folder))
    assert [one.phase.name for one in shown] == ["warm", "disk"]
    assert [one.start_s for one in shown] == pytest.approx([0.0, 15.0])
    assert [one.end_s for one in shown] == pytest.approx([10.1, 20.1])


def test_each_panel_has_its_unit_and_figures(folder: Path) -> None:
    made = {panel.title: panel for panel in panels(load_stream(folder))}
    assert {title: panel.unit for title, panel in made.items()} == {
        "throughput": "images/s",
        "in flight at the server": "requests",
        "images per forward": "mean",
        "weights loaded": "times/s",
        "workers busy": "%",
        "CPU": "cores",
        "event loop of the load generator": "ms late, p99",
        "GPU utilization": "%",
        "GPU memory in use": "GB",
        "GPU power": "W",
    }
    (gpu,) = made["GPU utilization"].series
    assert np.nanmax(gpu.values) == pytest.approx(40)
    assert gpu.low is not None
    assert gpu.high is not None
    assert np.nanmin(gpu.low) == pytest.approx(20)
    assert np.nanmax(gpu.high) == pytest.approx(60)
    generator, front = made["CPU"].series
    assert generator.label == "load generator, highest of 2 processes"
    assert np.nanmedian(generator.values) == pytest.approx(0.75)
    assert front.label == "server's front end"
    assert np.nanmax(made["GPU power"].series[0].values) == pytest.approx(400)


def test_the_throughput_is_that_of_the_answers_and_zero_between_phases(folder: Path) -> None:
    (series,) = next(panel for panel in panels(load_stream(folder)) if panel.title == "throughput").series
    assert series.values[5] == pytest.approx(2.0)
    assert series.values[12] == 0
    assert series.values[17] == pytest.approx(1.0)


def test_a_line_is_broken_where_samples_are_missing(folder: Path) -> None:
    (series,) = next(panel for panel in panels(load_stream(folder)) if "in flight" in panel.title).series
    (hole,) = np.flatnonzero(np.isnan(series.values))
    assert series.at_s[hole + 1] - series.at_s[hole - 1] > 5


def test_the_page_shows_the_picture_and_the_notes(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "Through the run" in page
    assert "no metrics: &lt;b&gt;gone&lt;/b&gt;" in page
    assert "GPU utilization: 40 to 40 %" in page
    assert (folder / "pictures" / "through.png").stat().st_size > 10_000


def test_only_panels_with_data_are_drawn(tmp_path: Path) -> None:
    lines: list[Sample | Note] = [client_sample(START + second) for second in range(20)]
    titles = [panel.title for panel in panels(load_stream(result(lines).write(tmp_path)))]
    assert titles == ["throughput", "CPU", "event loop of the load generator"]


@pytest.mark.parametrize("what", ["no samples", "no start", "one sample"])
def test_there_is_no_picture_without_data(tmp_path: Path, what: str) -> None:
    lines: dict[str, list[Sample | Note]] = {
        "no samples": [], "no start": busy(), "one sample": [client_sample(START + 1)],
    }  # fmt: skip
    made = result(lines[what])
    if what == "no start":
        made.started = {}
    folder = made.write(tmp_path)
    write_report(folder)
    assert not (folder / "pictures" / "through.png").exists()
    assert "Through the run" not in (folder / "report.html").read_text()


def test_a_short_run_is_drawn_too(tmp_path: Path) -> None:
    made = StreamResult({"warm": drawn("warm", 40, ("a",), {"a": 0.01})}, ("a",), {"a": 1}, started={"warm": START})
    made.samples = [
        msgspec.structs.replace(client_sample(START + number / 10), interval_s=0.1) for number in range(1, 6)
    ]
    folder = made.write(tmp_path)
    write_report(folder)
    assert (folder / "pictures" / "through.png").exists()


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    folder = result(busy()).write(tmp_path)
    (folder / SAMPLES_FILE).write_text('{"t_s": 1e300, "interval_s": 1.0, "source": "x"}\n')
    with pytest.raises(NotAResultError, match=r"samples\.jsonl holds 1e"):
        load_stream(folder)
    (folder / SAMPLES_FILE).write_text("{\n")
    with pytest.raises(NotAResultError, match=r"samples.jsonl:1: .*restore the file"):
        load_stream(folder)
