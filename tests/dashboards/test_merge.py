"""dlreport merge: several results side by side."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dlclient.bench_result import Setting, read_bench, read_point_samples, read_points
from dlclient.results import Environment, Gpu, Reason
from dlreport.errors import NotAResultError, OutputError, ReportError
from dlreport.merge.benches import merge_benches
from dlreport.merge.cli import Writer, main
from dlreport.merge.labels import labels
from dlreport.merge.report import write_streams
from dlreport.merge.scaling import scaling
from dlreport.merge.side import load_sides

from tests.dashboards.conftest import ENVIRONMENT, INFO, StreamResult, change_run, drawn, read_rows
from tests.dashboards.made_benches import BenchResult, failed_point, timed, two_networks
from tests.dashboards.test_stream_report import Page

LAPTOP = msgspec.structs.replace(ENVIRONMENT, host="laptop", cpu_model="Small CPU 1", cpu_cores=2)
GPU = msgspec.structs.replace(ENVIRONMENT, host="gpu-1", gpus=(Gpu("Example GPU", 80_000_000_000),), gpu_driver="550")
SERVICES = ("resnet18", "squeezenet1_1")


def stream(factor: float = 1.0, *, workers: int = 2, **more: Any) -> StreamResult:
    """A run of one plan, `factor` times as fast, with as many users as workers."""
    medians = {"resnet18": 0.03 / factor, "squeezenet1_1": 0.01 / factor}
    info: dict[str, Any] = copy.deepcopy(INFO)
    info["dlserve"]["workers"] = [{"worker": number, "device_name": "Example CPU 8000"} for number in range(workers)]
    info["dlserve"]["threads_per_worker"] = 8 // workers
    phases = {phase: drawn(phase, 60, SERVICES, medians) for phase in ("warm", "disk")}
    return StreamResult(phases, SERVICES, info=info, **more)


def on(machine: Environment, folder: Path) -> Path:
    """The result, as if that machine had written it."""
    change_run(folder, environment=msgspec.to_builtins(machine))
    return folder


def only_bench() -> tuple[list[Path], Mapping[str, Writer]]:
    """A writer of bench reports that notes what it was given."""
    given: list[Path] = []

    def write(folder: Path, _into: Path | None) -> Path:
        given.append(folder)
        return folder / "report.html"

    return given, {"stream": write, "bench": write}


def test_streams_of_two_machines_stand_side_by_side(tmp_path: Path) -> None:
    folders = [stream().write(tmp_path / "one"), on(LAPTOP, stream(0.5).write(tmp_path / "two"))]
    page = Page(write_streams(folders, tmp_path / "out"))
    assert "Images/s, warm: bench-1 " in page.text
    rows = read_rows(tmp_path / "out/tables/side_by_side.csv")
    rates = {
        row["result"]: float(row["images_per_s"])
        for row in rows
        if (row["model"], row["phase"]) == ("all models", "warm")
    }
    assert set(rates) == {"bench-1", "laptop"}
    assert rates["laptop"] == pytest.approx(0.5 * rates["bench-1"])
    setups = {row["result"]: row["load_tester"] for row in read_rows(tmp_path / "out/tables/setups.csv")}
    assert setups["laptop"] == "laptop: Small CPU 1, 2 cores"
    assert (tmp_path / "out/pictures/results.png").stat().st_size > 10_000
    assert not (tmp_path / "out/pictures/scaling.png").exists(), "another machine is no other number of workers"


def test_stamps_stay_at_every_figure_of_the_result_that_has_them(tmp_path: Path) -> None:
    reasons = (Reason("errors", "3 requests failed", "look"),)
    folders = [
        stream().write(tmp_path / "good"),
        on(LAPTOP, stream(2, reasons=reasons, simulated=True).write(tmp_path / "bad")),
    ]
    page = Page(write_streams(folders, tmp_path / "out"))
    assert "laptop is simulated, invalid: do not quote its figures." in page.text
    assert "(SIMULATED, INVALID)" in page.text
    assert "bench-1 is" not in page.text
    stamped = {row["result"]: row["stamps"] for row in read_rows(tmp_path / "out/tables/side_by_side.csv")}
    assert stamped == {"bench-1": "", "laptop": "SIMULATED, INVALID"}


def test_streams_that_differ_in_their_workers_alone_show_how_they_scale(tmp_path: Path) -> None:
    folders = [
        stream(factor, workers=workers).write(tmp_path / str(workers))
        for factor, workers in ((1.0, 1), (1.6, 2), (2.4, 4))
    ]
    page = Page(write_streams(folders, tmp_path / "out", ["one", "two", "four"]))
    assert "Scaling with workers" in page.text
    rows = {(row["phase"], row["workers"]): row for row in read_rows(tmp_path / "out/tables/scaling.csv")}
    assert float(rows["warm", "2"]["efficiency"]) == pytest.approx(0.8)
    assert float(rows["warm", "4"]["efficiency"]) == pytest.approx(0.6)
    four = rows["cold from disk", "4"]
    assert float(four["images_per_s_low"]) < float(four["images_per_s"]) < float(four["images_per_s_high"])
    assert (tmp_path / "out/pictures/scaling.png").exists()


@pytest.mark.parametrize("changed", ["plan", "versions", "precision", "workers"])
def test_what_else_differs_is_no_scaling(tmp_path: Path, changed: str) -> None:
    one, two = stream(workers=1), stream(2.0, workers=1 if changed == "workers" else 2)
    if changed == "precision":
        two.info["services"] = [{"name": "resnet18", "dlserve": {"engine": "torch", "settings": {"datatype": "bf16"}}}]
    folders = [one.write(tmp_path / "one"), two.write(tmp_path / "two")]
    if changed == "plan":
        change_run(folders[1], plan=msgspec.to_builtins(two.run().plan) | {"sha256": "00" * 32})
    if changed == "versions":
        on(msgspec.structs.replace(ENVIRONMENT, versions={"torch": "3.0"}), folders[1])
    assert scaling(load_sides(folders, None)) == ()


def test_another_plan_is_warned_of(tmp_path: Path) -> None:
    folders = [stream().write(tmp_path / "one"), stream().write(tmp_path / "two")]
    change_run(folders[1], plan=msgspec.to_builtins(stream().run().plan) | {"sha256": "00" * 32, "requests": 61})
    page = Page(write_streams(folders, tmp_path / "out"))
    assert "bench-1 (one) (A) and bench-1 (two) (B): the plans differ: requests per phase 60 in A, 61 in B" in page.text


def test_benches_become_one_with_the_machine_at_each_device(tmp_path: Path) -> None:
    settings = Setting(model="resnet18", engine="torch"), Setting(model="resnet18", engine="torch", device="cuda:0")
    one = two_networks(1, reproduces="dli", finished="2026-11-23T02:00:00Z").write(tmp_path / "one")
    other = BenchResult(
        [timed(settings[0], 0.02), timed(settings[1], 0.002)], GPU, changes={"reproduces": "dli"}
    ).write(tmp_path / "two")
    merged = merge_benches([one, other], tmp_path / "out")
    bench, points = read_bench(merged), read_points(merged)
    assert (bench.points, len(points), len({point.id for point in points})) == (6, 6, 6)
    assert all(point.id == point.setting.id for point in points)
    devices = {point.setting.device: point.read_back["device_name"] for point in points}
    assert devices == {
        "cpu on bench-1": "Example CPU 8000",
        "cpu on gpu-1": "Example CPU 8000",
        "cuda:0 on gpu-1": "Example GPU",
    }
    on_gpu = points[-1]
    assert read_point_samples(merged, on_gpu.id) == timed(settings[1], 0.002)[1]
    assert (bench.reproduces, bench.environment.gpus, bench.environment.host) == ("dli", (), "bench-1 + gpu-1")
    assert bench.machines == {"bench-1": ENVIRONMENT, "gpu-1": GPU}
    assert bench.finished is not None


def test_a_merged_bench_says_of_no_machine_what_is_another_ones(tmp_path: Path) -> None:
    folders = [two_networks(1).write(tmp_path / "one"), BenchResult([], LAPTOP).write(tmp_path / "two")]
    environment = read_bench(merge_benches(folders, tmp_path / "out")).environment
    assert (environment.cpu_model, environment.cpu_cores) == ("see each machine", 0)
    assert environment.versions == ENVIRONMENT.versions


def test_merged_points_keep_their_stamps_failures_and_logs(tmp_path: Path) -> None:
    doubt = Reason("drift", "latency rose", "cool down")
    setting = Setting(model="vgg16", batch_size=64)
    broken = failed_point(setting)[0]
    assert broken.failure is not None
    broken = msgspec.structs.replace(
        broken, failure=msgspec.structs.replace(broken.failure, log=f"logs/{broken.id}.log")
    )
    doubtful = timed(Setting(model="a"), 0.01, simulated=True, reasons=(doubt,))
    one = BenchResult([doubtful, (broken, [])], finished=False).write(tmp_path / "one")
    (one / f"logs/{broken.id}.log").write_text("no memory left")
    merged = merge_benches([one, two_networks(1).write(tmp_path / "two")], tmp_path / "out", ["x", "y"])
    first, second = read_points(merged)[:2]
    assert (first.simulated, first.reasons) == (True, (doubt,))
    assert second.failure is not None
    assert (merged / second.failure.log).read_text() == "no memory left"
    assert read_bench(merged).finished is None


def test_a_merged_result_can_be_merged_again(tmp_path: Path) -> None:
    folders = [two_networks(1).write(tmp_path / "one"), BenchResult([], LAPTOP).write(tmp_path / "two")]
    both = merge_benches(folders, tmp_path / "both")
    third = BenchResult([timed(Setting(model="a"), 0.01)], GPU).write(tmp_path / "three")
    merged = merge_benches([both, third], tmp_path / "all")
    assert set(read_bench(merged).machines) == {"bench-1", "laptop", "gpu-1"}
    assert {point.setting.device for point in read_points(merged)} == {"cpu on bench-1", "cpu on gpu-1"}


def test_a_merged_bench_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    one = two_networks(1).write(tmp_path / "one")
    with pytest.raises(OutputError, match="is not empty"):
        merge_benches([one, one], one)


def test_benches_of_two_programs_are_not_merged(tmp_path: Path) -> None:
    folders = [two_networks(1).write(tmp_path / "one"), two_networks(1, program="dd_bench").write(tmp_path / "two")]
    with pytest.raises(NotAResultError, match="merge those of each program by themselves"):
        merge_benches(folders, tmp_path / "out")


def test_results_of_one_machine_are_called_by_their_folders_too() -> None:
    folders = [Path("/r/a"), Path("/r/b"), Path("/s/b")]
    assert labels(folders, ["x", "y", "y"], None) == ("x", "y (b)", "y (b) 2")
    assert labels(folders, ["x", "y", "y"], ["1", "2", "3"]) == ("1", "2", "3")
    for names in (["1", "2"], ["1", "1", "2"], ["", "1", "2"]):
        with pytest.raises(ReportError, match="give each one a name of its own"):
            labels(folders, ["x", "y", "z"], names)


def test_the_command_hands_a_merged_bench_to_the_bench_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(two_networks(seed).write(tmp_path / str(seed))) for seed in (1, 2)]
    given, writers = only_bench()
    assert main([*folders, "-o", str(tmp_path / "out"), "--names", "before, after"], writers) == 0
    assert given == [tmp_path / "out"]
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'report.html'}\n"
    assert set(read_bench(given[0]).machines) == {"before", "after"}


def test_mixed_kinds_and_versions_are_refused_with_the_folder_and_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writers = only_bench()
    bench, one, two = (tmp_path / name for name in ("bench", "one", "two"))
    two_networks(1).write(bench)
    stream().write(one)
    change_run(stream().write(two), schema="dlserve-stream/1")
    assert main([str(one), str(bench), "-o", str(tmp_path / "out")], writers) == 1
    assert f"{one} is a stream, {bench} is a bench; name results of one kind" in capsys.readouterr().err
    assert main([str(one), str(two), "-o", str(tmp_path / "out")], writers) == 1
    assert f"{two} has 'dlserve-stream/1'; measure again" in capsys.readouterr().err
