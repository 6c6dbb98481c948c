"""dlreport.stream.networks: the same networks here and in 2018, with both hardware lines."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from dlreport.published import OUR_NAMES, network_figures
from dlreport.stream import write_report

from tests.dashboards.conftest import StreamResult, record


def result() -> StreamResult:
    services = ("vgg16", "squeezenet1_1", "inception_bn")
    warm = [record("warm", index, index * 0.1, 0.1, services[index % 3]) for index in range(30)]
    warm += [record("warm", 30, 3.0, 9.0, "vgg16", batch_size=4, stages={"load": 0.0, "forward": 9.0})]
    return StreamResult({"warm": warm}, services, {"vgg16": 553_430_176, "squeezenet1_1": 4_941_984})


def test_every_published_network_is_found_under_our_name() -> None:
    figures = network_figures()
    assert set(figures) == set(OUR_NAMES.values())
    assert all(figures[name].cpu and figures[name].gpu and figures[name].file for name in figures)
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
    assert [float(row[f"published_{device}_s"]) for device in ("cpu", "gpu")] == pytest.approx([0.660, 0.0058])
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
