"""dlreport compare: two result folders in, a table, a page and an exit status out."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dlclient.bench_result import Accuracy, Load, MaxBatch, Point, Question, Sample, Setting
from dlclient.results import Gpu, Reason, Record
from dlreport.compare.benches import match
from dlreport.compare.cli import main
from dlreport.compare.condition import parse_condition
from dlreport.compare.report import compare, write_comparison

from tests.dashboards.conftest import ENVIRONMENT, StreamResult, change_run, drawn, failed, read_rows, record
from tests.dashboards.made_benches import BenchResult, failed_point, timed, two_networks
from tests.dashboards.test_cli import dlreport
from tests.dashboards.test_stream_report import Page

MEDIANS_S = {"resnet18": 0.03, "squeezenet1_1": 0.01}
COLD_S = {"resnet18": 0.06, "squeezenet1_1": 0.013}


def again(records: Sequence[Record], seed: int, slower: float) -> list[Record]:
    """The same requests as another run of the same plan times them."""
    draw, now, found = random.Random(seed), 0.0, []
    for one in records:
        latency_s = one.latency_s * slower * draw.lognormvariate(0, 0.08)
        found.append(record(one.phase, one.index, now, latency_s, one.model))
        now += latency_s
    return found


def stream(seed: int, *, warm_slower: float = 1.0, **more: Any) -> StreamResult:
    """A run of one plan, warm and from disk."""
    services = tuple(MEDIANS_S)
    warm, disk = drawn("warm", 300, services, MEDIANS_S), drawn("disk", 300, services, COLD_S)
    return StreamResult({"warm": again(warm, seed, warm_slower), "disk": again(disk, seed + 1, 1.0)}, **more)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Streams and benches, alike and a tenth slower."""
    base = tmp_path_factory.mktemp("compare")
    return {
        "before": stream(1).write(base / "before"),
        "alike": stream(3).write(base / "alike"),
        "slower": stream(5, warm_slower=1.1).write(base / "slower"),
        "bench": two_networks(1).write(base / "bench"),
        "bench alike": two_networks(2).write(base / "bench-alike"),
        "bench slower": two_networks(3, slower=1.1).write(base / "bench-slower"),
    }


def outcomes(a: Path, b: Path, figure: str) -> dict[str, str]:
    """What is said of a figure, by point."""
    return {point.name: change.outcome for point, change in compare(a, b).changes if change.figure == figure}


def test_a_tenth_slower_warm_is_found_in_a_stream_and_nothing_else(folders: dict[str, Path]) -> None:
    for figure in ("mean", "images/s"):
        found = outcomes(folders["before"], folders["slower"], figure)
        assert found == {
            "all models, warm": "slower",
            "all models, cold from disk": "no difference",
            "resnet18, warm": "slower",
            "resnet18, cold from disk": "no difference",
            "squeezenet1_1, warm": "slower",
            "squeezenet1_1, cold from disk": "no difference",
        }
    assert outcomes(folders["before"], folders["slower"], "p50")["squeezenet1_1, warm"] == "slower"


def test_equal_streams_show_no_difference(folders: dict[str, Path]) -> None:
    found = compare(folders["before"], folders["alike"])
    assert {change.outcome for _, change in found.changes if change.interval} == {"no difference"}
    assert found.warnings == ()
    assert found.lone == ()


def test_a_tenth_slower_network_is_found_in_a_bench_and_nothing_else(folders: dict[str, Path]) -> None:
    for figure in ("mean", "p50", "images/s"):
        assert outcomes(folders["bench"], folders["bench slower"], figure) == {
            "resnet18, batch 1": "no difference",
            "resnet18, batch 4": "no difference",
            "squeezenet1_1, batch 1": "slower",
            "squeezenet1_1, batch 4": "slower",
        }
    assert "slower" not in outcomes(folders["bench"], folders["bench alike"], "mean").values()


def test_the_same_plan_is_compared_request_by_request(folders: dict[str, Path], tmp_path: Path) -> None:
    def mean(a: Path, b: Path) -> bool:
        return next(change for _, change in compare(a, b).changes if change.figure == "mean").paired

    assert mean(folders["before"], folders["slower"])
    other = stream(7).write(tmp_path / "other")
    plan = msgspec.to_builtins(stream(7).run().plan)
    change_run(other, plan=plan | {"sha256": "00" * 32, "requests": 301, "image_sha256": "11" * 32})
    assert not mean(folders["before"], other)
    warnings = {warning.code: warning.text for warning in compare(folders["before"], other).warnings}
    assert warnings.keys() == {"plan-differs", "images-differ"}
    assert "requests per phase 300 in A, 301 in B" in warnings["plan-differs"]


def test_without_answers_in_common_both_are_taken_as_they_are(tmp_path: Path, folders: dict[str, Path]) -> None:
    lossy = stream(9)
    lossy.phases["warm"][5] = failed("warm", 5, lossy.phases["warm"][5].due_s, "resnet18")
    found = compare(folders["before"], lossy.write(tmp_path))
    paired = {point.name: change.paired for point, change in found.changes if change.figure == "mean"}
    assert not paired["all models, warm"]
    assert paired["all models, cold from disk"]


def test_an_open_loop_compares_the_rate_of_all_models_alone(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 3)):
        stream(seed, load="20/s poisson", offered_per_s=20.0, delivered_per_s=20.0).write(tmp_path / name)
    found = outcomes(tmp_path / "a", tmp_path / "b", "images/s")
    assert set(found) == {"all models, warm", "all models, cold from disk"}
    assert "slower" not in found.values()


@pytest.mark.parametrize(
    ("conditions", "status", "said"),
    [
        (["mean>+5%"], 3, "FAIL mean>+5%: all models, warm: +"),
        (["images/s<-5%"], 3, "FAIL images/s<-5%: resnet18, warm: -"),
        (["mean > +0.5 ms"], 3, "FAIL mean>+0.5ms: squeezenet1_1, warm: +"),
        (["mean>+20%"], 0, "pass mean>+20% (judged at 6 points)"),
        (["mean<-1%", "p50>+25%"], 0, "pass p50>+25%"),
        (["p99>+5%"], 1, "CANNOT TELL p99>+5%"),
        (["mean>+5%", "--at", "cold"], 0, "pass mean>+5% (judged at 3 points)"),
    ],
)
def test_the_gate(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str], conditions: list[str], status: int, said: str
) -> None:
    options = [part for one in conditions for part in (("--fail-on", one) if one[:1] not in "-c" else (one,))]
    assert main([str(folders["before"]), str(folders["slower"]), *options]) == status
    assert said in capsys.readouterr().out


def test_the_gate_lets_equal_results_pass_and_noise_alone_never_fails_it(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folders["before"]), str(folders["alike"]), "--fail-on", "p50>+0%", "--fail-on", "mean>+0%"]) == 0
    assert "No difference between A and B" in capsys.readouterr().out


def test_without_a_condition_a_difference_is_no_failure(folders: dict[str, Path]) -> None:
    assert main([str(folders["before"]), str(folders["slower"])]) == 0


def test_the_command_runs_as_people_run_it(folders: dict[str, Path]) -> None:
    done = dlreport("compare", folders["bench"], folders["bench slower"], "--fail-on", "mean>+5%")
    assert done.returncode == 3
    assert "FAIL mean>+5%: squeezenet1_1, batch 1" in done.stdout


def test_a_bad_condition_is_a_wrong_command_line(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(folders["bench"]), str(folders["bench slower"]), "--fail-on", "p95>+5%"])
    assert ended.value.code == 2
    assert "'p95' is not compared; name one of mean, p50, p90, p99, images/s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99", "is no condition"),
        ("p99>=+5%", "write > or < alone"),
        ("p99>5%", "has a sign, p99>+5%"),
        ("p99>-5%", "is met where nothing changed"),
        ("images/s<+5%", "is met where nothing changed"),
        ("p99>+5", "needs a unit of %, s, ms, us"),
        ("images/s<-5ms", "needs a unit of %"),
        ("p99>+5parsec", "needs a unit"),
        ("", "is no condition"),
    ],
)
def test_a_bad_condition_says_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_condition(text)
    assert said in str(caught.value)


def test_the_page_the_tables_and_the_pictures_say_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    comparison = compare(folders["before"], folders["slower"])
    page = Page(write_comparison(comparison, [], tmp_path))
    assert "B is slower in" in page.text
    assert [name for name, _ in page.pictures] != []
    rows = {(row["point"], row["detail"], row["figure"]): row for row in read_rows(tmp_path / "tables/differences.csv")}
    mean = rows["all models", "warm", "mean"]
    assert float(mean["change_fraction"]) == pytest.approx(float(mean["b"]) / float(mean["a"]) - 1)
    assert float(mean["change_low_fraction"]) < 0.1 < float(mean["change_high_fraction"])
    assert (mean["outcome"], mean["paired"]) == ("slower", "yes")
    assert "slower" in (tmp_path / "tables/differences.md").read_text()
    assert (tmp_path / "pictures/changes_mean.png").stat().st_size > 10_000


def test_simulated_and_invalid_results_keep_their_stamps_and_pass_no_gate(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = Reason("errors", "3 requests failed", "look at the server")
    bad = stream(3, reasons=(reason,), simulated=True).write(tmp_path / "bad")
    status = main([str(folders["before"]), str(bad), "--fail-on", "mean>+50%", "-o", str(tmp_path / "page")])
    told = capsys.readouterr()
    assert status == 1
    assert "the gate cannot pass: B is invalid: 3 requests failed; look at the server" in told.err
    assert told.out.startswith("SIMULATED · INVALID: do not quote these figures")
    page = Page(tmp_path / "page/report.html")
    assert "Simulated device." in page.text
    assert "do not quote these figures" in page.text
    stamped = compare(folders["before"], bad)
    write_comparison(replace(stamped, b=replace(stamped.b, stamps=())), [], tmp_path / "unstamped")
    names = [f"pictures/{path.name}" for path in (tmp_path / "page/pictures").iterdir()]
    assert all((tmp_path / "page" / one).read_bytes() != (tmp_path / "unstamped" / one).read_bytes() for one in names)
    assert len(names) == len(page.pictures) * 2
    assert "(SIMULATED, INVALID)" in (tmp_path / "page/tables/differences.md").read_text()
    assert {row["doubt"] for row in read_rows(tmp_path / "page/tables/differences.csv")} == {"B's phase is invalid"}


def test_other_hardware_versions_and_precision_are_warned_of(folders: dict[str, Path], tmp_path: Path) -> None:
    changed = stream(3)
    services = [
        {"name": name, "dlserve": {"engine": "openvino", "settings": {"datatype": "bf16"}}} for name in MEDIANS_S
    ]
    changed.info = changed.info | {"services": services}
    other = changed.write(tmp_path)
    machine = msgspec.structs.replace(
        ENVIRONMENT,
        cpu_model="Example CPU 9000",
        cpu_turbo=False,
        gpus=(Gpu("Example GPU", 80_000_000_000, power_limit_w=350.0, pcie_generation_limit=4, pcie_width_limit=16),),
        versions={"locust": "2.48.0"},
    )
    change_run(other, environment=msgspec.to_builtins(machine))
    warnings = {warning.code: warning.text for warning in compare(folders["before"], other).warnings}
    assert "CPU Example CPU 8000 in A, Example CPU 9000 in B" in warnings["hardware-differs"]
    assert "turbo not told in A, off in B" in warnings["hardware-differs"]
    assert "GPU none in A, Example GPU (PCIe 4, 16 lanes, at most 350 W) in B" in warnings["hardware-differs"]
    assert "locust 2.47.0 in A, 2.48.0 in B" in warnings["versions-differ"]
    assert "resnet18: engine torch in A, openvino in B" in warnings["precision-differs"]
    assert "datatype not told in A, bf16 in B" in warnings["precision-differs"]


def test_a_phase_that_only_one_has_is_listed(folders: dict[str, Path], tmp_path: Path) -> None:
    warm_only = stream(3)
    del warm_only.phases["disk"]
    found = compare(folders["before"], warm_only.write(tmp_path))
    assert [(one.letter, one.name) for one in found.lone] == [("A", "cold from disk")]


def test_a_model_that_fails_in_b_fails_the_gate(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = stream(3)
    broken.phases["warm"] = [
        failed("warm", one.index, one.due_s, one.model) if one.model == "resnet18" else one
        for one in broken.phases["warm"]
    ]
    assert main([str(folders["before"]), str(broken.write(tmp_path)), "--fail-on", "p90>+50%"]) == 3
    assert "resnet18, warm has no figures in B any more: all of the other's" in capsys.readouterr().err


def test_points_of_a_bench_that_fail_or_are_missing_are_listed(folders: dict[str, Path], tmp_path: Path) -> None:
    made = two_networks(2)
    last = made.points[-1][0].setting
    other = BenchResult([*made.points[1:-1], failed_point(last)]).write(tmp_path)
    found = compare(folders["bench"], other)
    assert {(one.letter, one.name, one.failed) for one in found.lone} == {
        ("A", "resnet18, batch 1", False),
        ("A", "squeezenet1_1, batch 4", True),
    }
    assert "8 GB are not enough" in found.lone[-1].why


def test_points_are_matched_by_setting_then_wherever_no_other_can_be_meant() -> None:
    def points(*settings: Setting) -> list[Any]:
        return [timed(setting, 0.01, number=2)[0] for setting in settings]

    torch, openvino = (Setting(model="a", engine=engine) for engine in ("torch", "openvino"))
    assert match(points(torch, openvino), points(openvino, torch))[0][1].setting == torch
    assert [pair[1].setting.engine for pair in match(points(torch), points(openvino))] == ["openvino"]
    assert match(points(torch), points(openvino, Setting(model="a", engine="onnxruntime"))) == []
    here, there = (Setting(model="a", target=f"http://{host}:8080") for host in ("here", "there"))
    assert len(match(points(here), points(there))) == 1
    assert match(points(torch), points(Setting(model="a", engine="torch", batch_size=2))) == []


def test_a_bench_with_another_engine_is_compared_with_a_warning(folders: dict[str, Path], tmp_path: Path) -> None:
    made = two_networks(2)
    other = [
        timed(msgspec.structs.replace(point.setting, engine="openvino", precision="bf16"), 0.01, seed=4)
        for point, _ in made.points
    ]
    found = compare(folders["bench"], BenchResult(other).write(tmp_path))
    assert len(found.points) == 4
    (warning,) = [one for one in found.warnings if one.code == "settings-differ"]
    assert "engine torch in A, openvino in B (4 points)" in warning.text
    assert "precision not told in A, bf16 in B (4 points)" in warning.text


def test_an_invalid_point_is_stamped_and_not_judged(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = two_networks(2, slower=1.3)
    doubted = [
        (msgspec.structs.replace(point, reasons=(Reason("drift", "latency rose", "cool down"),)), samples)
        for point, samples in made.points
    ]
    other = BenchResult(doubted).write(tmp_path)
    assert main([str(folders["bench"]), str(other), "--fail-on", "mean>+5%"]) == 1
    told = capsys.readouterr()
    assert "B is invalid: latency rose" in told.out
    assert "B has invalid points: 4 of its 4" in told.err


def test_lost_samples_leave_the_figures_and_take_the_intervals(folders: dict[str, Path], tmp_path: Path) -> None:
    made = two_networks(2)
    other = made.write(tmp_path)
    lost = made.points[0][0]
    (other / "samples" / f"{lost.id}.jsonl").unlink()
    found = compare(folders["bench"], other)
    first = found.points[0].changes[0]
    assert (first.b, first.outcome) == (lost.latency_s.mean if lost.latency_s else None, "cannot tell")
    assert "samples-missing" in {warning.code for warning in found.warnings}


def test_two_kinds_and_two_versions_are_refused_with_the_folder_and_the_cure(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folders["before"]), str(folders["bench"])]) == 1
    assert "name results of one kind" in capsys.readouterr().err
    old = stream(1).write(tmp_path)
    change_run(old, schema="dlserve-stream/1")
    assert main([str(folders["before"]), str(old)]) == 1
    told = capsys.readouterr().err
    assert f"{old} has 'dlserve-stream/1'" in told
    assert "measure again, with one version of dlserve" in told


def test_nothing_in_common_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    other = StreamResult({"host": drawn("host", 20, ("a",), {"a": 0.01})}, ("a",), {}).write(tmp_path)
    found = compare(folders["before"], other)
    assert found.points == ()
    assert Page(write_comparison(found, [], tmp_path / "page")).text.count("no point in common") >= 1


def test_largest_batches_accuracy_and_loads_are_compared_too(tmp_path: Path) -> None:
    def point(question: Question, **answers: Any) -> tuple[Point, list[Sample]]:
        setting = Setting(model="resnet18", question=question)
        return Point(id=setting.id, setting=setting, started="", seconds=1.0, **answers), []

    def bench(largest: int, right: int, reload_s: float) -> BenchResult:
        share = right / 1000
        wilson = (share - 0.02, share + 0.02)
        accuracy = Accuracy(
            images=1000, top1=share, top5=0.9, top1_interval=wilson, top5_interval=(0.88, 0.92), dataset="small"
        )
        fits = MaxBatch(largest=largest, smallest_failed=largest + 1, limit_bytes=None, tries=())
        times = tuple(reload_s * (1 + 0.01 * (index % 5)) for index in range(20))
        return BenchResult(
            [
                point("max-batch", max_batch=fits),
                point("accuracy", accuracy=accuracy),
                point("load", load=Load(reload_s=times, first_runs_s=times[:2])),
            ]
        )

    found = compare(bench(64, 800, 0.1).write(tmp_path / "a"), bench(48, 700, 0.12).write(tmp_path / "b"))
    assert "no times in common" in Page(write_comparison(found, [], tmp_path / "page")).text
    rows = {row["figure"]: row for row in read_rows(tmp_path / "page/tables/others.csv")}
    assert (rows["largest batch"]["difference"], rows["largest batch"]["outcome"]) == ("-16", "smaller")
    top1 = rows["top-1"]
    spread = 0.02 * 2**0.5  # Newcombe: the root of the sum of both squared distances
    assert [float(top1[end]) for end in ("difference_low", "difference_high")] == pytest.approx(
        [-0.1 - spread, -0.1 + spread]
    )
    assert (top1["outcome"], rows["top-5"]["outcome"]) == ("less right", "no difference")
    assert float(rows["reload"]["difference"]) == pytest.approx(0.2)
    assert rows["reload"]["outcome"] == "slower"
    assert rows["first inference after it"]["outcome"] == ""
