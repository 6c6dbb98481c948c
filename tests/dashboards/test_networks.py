"""dlreport.stream.networks: the same networks here and in 2018, with both hardware lines."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from dlreport.published import OUR_NAMES, network_figures
from dlreport.stream import write_report

from tests.dashboards.conftest import StreamResult, record
from tests.dashboards.test_stream_report import Page


def result() -> StreamResult:
    services = ("vgg16", "squeezenet1_1", "inception_bn")
    warm = [record("warm", index, index * 0.1, 0.1, services[index % 3]) for index in range(30)]
    warm += [record("warm", 30, 3.0, 9.0, "vgg16", batch_size=4, stages={"load": 0.0, "forward": 9.0})]
    return StreamResult({"warm": warm}, services, {"vgg16": 553_430_176, "squeezenet1_1": 4_941_984})


def test_every_published_network_is_found_under_our_name() -> None:
    figures = network_figures()
    assert set(figures) == set(OUR_NAMES.values())
    assert all(figure is not None for one in figures.values() for figure in (one.cpu, one.gpu, one.gpu_64, one.file))
    vgg16 = figures["vgg16"]
    assert vgg16.cpu is not None
    assert (vgg16.cpu.value, vgg16.cpu.unit, vgg16.cpu.timed_scope) == (660, "ms", "model")


def test_a_row_sets_both_side_by_side_with_hardware_class_and_how_it_was_read(tmp_path: Path) -> None:
    page = write_report(result().write(tmp_path)).read_text()
    with (tmp_path / "tables/networks.csv").open(newline="") as lines:
        rows = {row["model"]: row for row in csv.DictReader(lines)}
    assert list(rows) == ["vgg16", "squeezenet1_1"]
    row = rows["vgg16"]
    # the request that shared a batch of 4 took 9 s and counts for nothing here
    assert float(row["forward_s"]) == pytest.approx(0.065)
    assert row["forward_n"] == "10"
    published = [float(row[f"published_{device}_s"]) for device in ("cpu", "gpu", "gpu_64")]
    assert published == pytest.approx([0.660, 0.0058, 0.178])
    assert float(row["published_file_bytes"]) == 528 * 2**20
    assert (row["timed_scope"], row["comparability"]) == ("model", "A")
    assert "other, older hardware" in row["remark"]
    assert "read off a chart (about 10 %)" in row["remark"]
    for fact in (
        "E5-2683 v3, published",
        "GTX 1080 Ti, published",
        "2 x Example CPU 8000",
        "not which system is better",
    ):
        assert fact in page, fact
    assert "Not published one by one: inception_bn." in page
    assert "beaten" not in page


def test_a_simulated_or_invalid_run_says_so_on_the_row(tmp_path: Path) -> None:
    write_report(replace(result(), simulated=True).write(tmp_path))
    assert "this run's device was simulated" in (tmp_path / "tables/networks.md").read_text()


def test_without_a_published_network_there_is_no_table(tmp_path: Path) -> None:
    page = write_report(StreamResult({"warm": [record("warm", 0, 0.0, 0.1, "a")]}, ("a",), {}).write(tmp_path))
    assert "one by one" not in page.read_text()
    assert not (tmp_path / "tables/networks.csv").exists()
    assert not list(tmp_path.glob("pictures/published.*"))
    assert not list(tmp_path.glob("pictures/networks.*"))


def test_fewer_than_three_of_them_are_a_table_and_no_picture(tmp_path: Path) -> None:
    write_report(result().write(tmp_path))
    assert (tmp_path / "tables/networks.csv").exists()
    assert not list(tmp_path.glob("pictures/networks.*"))
    assert not list(tmp_path.glob("pictures/published.*"))


def eight() -> StreamResult:
    """All networks that were published, 3.1 s for 31 images."""
    services = tuple(OUR_NAMES.values())
    warm = [record("warm", index, index * 0.1, 0.1, services[index % 8]) for index in range(31)]
    return StreamResult({"warm": warm}, services, {"vgg16": 553_430_176})


def spoken(page: Path, title: str) -> str:
    """What a picture says in words."""
    (alt,) = [alt for alt, _ in Page(page).pictures if alt.startswith(title)]
    return alt


def test_bars_of_the_stream_of_2018_name_their_hardware_and_how_many_times_cold_was_of_warm(tmp_path: Path) -> None:
    made = eight()
    made.phases["disk"] = [record("disk", index, index * 0.3, 0.3, made.services[index % 3]) for index in range(30)]
    alt = spoken(write_report(made.write(tmp_path)), "Wall time per image")
    assert "this run, warm on 2 x Example CPU 8000: 100 ms" in alt
    assert "2018, warm (published, class B) on 8x GTX 1080 Ti, MXNet 2018: 3.16 ms;" in alt
    assert "2018, cold (published, class B) on 8x GTX 1080 Ti, MXNet 2018: 113.3 ms (36 x warm)" in alt
    assert (tmp_path / "pictures/published.png").stat().st_size > 10_000


def test_bars_of_the_networks_stand_with_those_of_the_same_kind_of_device(tmp_path: Path) -> None:
    made = eight()
    alt = spoken(write_report(made.write(tmp_path / "cpu")), "The networks of 2018")
    assert "CPU, batch 1, vgg16, published: 660 ms; CPU, batch 1, vgg16, this run: 65.0 ms" in alt
    assert "GPU, batch 1, vgg16, published: 5.80 ms" in alt
    assert "GPU, batch 1, vgg16, this run" not in alt
    assert "Size of the weights, vgg16, this run: 528 MiB" in alt
    gpu = {"device": "cuda:0", "device_name": "Example GPU"}
    made.info = made.info | {"dlserve": {"workers": [gpu]}}
    made.batch_size = 64
    made.phases["warm"] = [
        record("warm", index, index * 0.1, 0.1, "vgg16", images=64, batch_size=64) for index in range(20)
    ]
    alt = spoken(write_report(made.write(tmp_path / "gpu")), "The networks of 2018")
    assert "GPU, batch 64, vgg16, published: 178 ms per batch; GPU, batch 64, vgg16, this run: 65.0 ms per batch" in alt
    assert "CPU, batch 1, vgg16, this run" not in alt
    with (tmp_path / "gpu/tables/networks.csv").open(newline="") as lines:
        (row,) = [row for row in csv.DictReader(lines) if row["model"] == "vgg16"]
    assert row["forward_s"] == ""
    assert float(row["forward_64_s"]) == pytest.approx(0.065)
