"""`make bench` and `make bench-peers`: they run, and what they found is drawn."""

import csv
import importlib
import math
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from dlclient.environment import environment
from dlclient.serving_result import SERVING_SCHEMA, Measured, Ratio, Round, Serving, read_serving
from dlreport.cli import main as dlreport
from dlreport.serving.answer import answer
from dlserve.hardware import cores

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "server/benchmarks/serving.py"
STARVATION = ROOT / "server/benchmarks/starvation.py"
OVERLOAD = ROOT / "server/benchmarks/overload.py"
FRONT_ENDS = ROOT / "server/benchmarks/front_ends.py"
RELOAD = ROOT / "server/benchmarks/reload.py"
PEERS = ROOT / "server/benchmarks/peers_bench.py"
PREDICTION = ROOT / "server/benchmarks/prediction.py"
OVERHEAD = ROOT / "clients/benchmarks/overhead.py"


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, timeout=240
    )


def test_the_benchmark_measures_every_way_in_and_its_result_is_drawn(tmp_path: Path) -> None:
    done = run(BENCH, "--only", "zero,stages", "--rounds", 1, "--seconds", 1, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_serving(tmp_path)
    assert [one.failure for one in result.measured] == [""] * 12
    assert {one.target for one in result.measured} == {
        "bare uvicorn",
        "bare FastAPI",
        *(f"dlserve, {way}" for way in ("raw", "base64", "path", "kserve")),
    }
    ours = next(one for one in result.measured if one.target == "dlserve, raw")
    assert set(ours.rounds[0].cpu_s) == {"front", "workers", "all"}
    assert {stage.stage for stage in result.stages} >= {"wire", "queue", "forward", "post", "front end"}
    assert all(len(ratio.values) == 1 for ratio in result.ratios)
    assert dlreport([str(tmp_path), "-o", str(tmp_path / "report")]) == 0
    rows = list(csv.DictReader((tmp_path / "report/tables/measured.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["target"] for row in rows] == [one.target for one in result.measured]
    for picture in ("ratios", "rates"):  # a name's $ is one: no mathematics, so no tick may be written as such
        assert "mathdefault" not in (tmp_path / f"report/pictures/{picture}.svg").read_text(encoding="utf-8")


def test_a_real_network_is_measured_beside_loops_with_no_server(tmp_path: Path) -> None:
    given = ("--only", "networks", "--networks", "squeezenet1_1", "--rounds", 1, "--seconds", 1)
    done = run(BENCH, *given, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_serving(tmp_path)
    found = {(one.target, one.clients): one.rounds[0] for one in result.measured}
    assert set(found) == {("no server", 1), ("no server", 2), *(("dlserve", clients) for clients in (1, 2, 8, 32))}
    eight, one = result.ratios
    assert eight.values == (found["dlserve", 8].rate_per_s / found["no server", 2].rate_per_s,)
    assert all(one.rate_per_s > 0 for one in found.values())
    assert (one.unit, len(one.values)) == ("ms", 1)


def test_a_client_is_compared_with_the_calls_in_process_just_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "server/benchmarks")
    drifts = iter(range(7))  # the machine slows down by a millisecond each time

    def measured(p50_ms: float) -> Round:
        return Round(p50_s=(p50_ms + next(drifts)) / 1e3, rate_per_s=100.0)

    in_process, asked, more_s = importlib.import_module("serving").side_by_side(
        lambda: measured(10.0), lambda: measured(10.5)
    )
    assert more_s == pytest.approx(0.5e-3)
    assert (in_process.p50_s, asked.p50_s) == pytest.approx((13e-3, 13.5e-3))


def test_what_it_costs_to_be_measured_by_dlbench_is_measured_and_drawn(tmp_path: Path) -> None:
    done = run(OVERHEAD, "--rounds", 1, "--seconds", 1, "--model", "squeezenet1_1", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_serving(tmp_path)
    assert [one.target for one in result.measured] == ["bare loop", "dlbench"] * 2 + ["benchmark_app", "dlbench"]
    assert [(ratio.unit, ratio.goal, len(ratio.values)) for ratio in result.ratios] == [
        ("us", "at most 50", 1),
        ("us", "at most 50", 1),
        ("x", "at least 0.95", 1),
    ]
    bare, ours = (one.rounds[0].p50_s for one in result.measured[:2])
    assert bare is not None
    assert ours is not None
    assert (ours - bare) * 1e6 == pytest.approx(result.ratios[0].values[0])
    assert dlreport([str(tmp_path), "-o", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report/pictures/ratios.svg").exists()


def test_the_error_of_predictions_is_told_for_every_network_and_load_beside_what_a_loop_differs_by(
    tmp_path: Path,
) -> None:
    networks = ("squeezenet1_1", "mobilenet_v3_small")
    given = ("--networks", ",".join(networks), "--rounds", 2, "--seconds", 1, "--results", tmp_path)
    done = run(PREDICTION, *given)
    assert done.returncode == 0, done.stderr
    ratios = {ratio.text: ratio for ratio in read_serving(tmp_path).ratios}
    for name in networks:
        for load in ("1 client", "8 clients", "Poisson", "8 clients, mixed", "Poisson, mixed"):
            one = ratios[f"{name}, {load}: median error"]
            assert (len(one.values), one.unit, one.at_most) == (2, "%", 10)
            assert all(value > 0 for value in one.values)
        assert len(ratios[f"{name}, no server, two loops: median error"].values) == 2
    assert dlreport([str(tmp_path)]) == 0


def test_a_quantile_lies_in_the_bucket_where_its_share_of_the_calls_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "server/benchmarks")
    errors = importlib.import_module("prediction").Errors((0.1, 0.2, math.inf), (2.0, 6.0, 8.0))
    assert [errors.quantile(share) for share in (0.125, 0.25, 0.5, 0.75)] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert errors.quantile(0.9) == 0.2, "nothing is known beyond the last bound"
    twice = errors.plus(errors)
    assert (twice.calls, twice.since(errors)) == (16, errors)


def test_a_rare_models_calls_are_held_against_what_the_batcher_states(tmp_path: Path) -> None:
    done = run(STARVATION, "--rounds", 1, "--seconds", 5, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("failed 0") == 2
    # The batch that runs and 4 more of 60 ms, its own 10 ms; then also two loads of 200 ms. None takes less than it sleeps.
    for ratio, least in zip(read_serving(tmp_path).ratios, (310, 710), strict=True):
        bound_ms = re.search(r"longest rare call / the bound \(([0-9]+) to [0-9]+ ms\)", ratio.text)
        assert bound_ms is not None
        assert int(bound_ms[1]) >= least
        assert len(ratio.values) == 1
        assert ratio.values[0] > 0


def test_an_overload_is_judged_by_answers_in_time_refusals_memory_and_recovery(tmp_path: Path) -> None:
    done = run(OVERLOAD, "--seconds", 3, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_serving(tmp_path)
    assert [one.target for one in result.measured] == ["dlserve, at capacity", "dlserve, at 2 x capacity"]
    assert all(one.rounds[0].rate_per_s > 0 for one in result.measured)
    useful, refusal, memory, recovery = result.ratios
    assert [ratio.goal for ratio in result.ratios] == ["at least 0.95", "at most 50", "at most 1.05", "at most 2"]
    assert all(ratio.values[0] > 0 for ratio in (useful, refusal, memory))
    assert recovery.values[0] >= 0
    assert dlreport([str(tmp_path)]) == 0
    assert "open loop" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_reload_is_held_against_reading_its_file_and_against_bare_sessions(tmp_path: Path) -> None:
    result = tmp_path / "result"
    given = ("--networks", "squeezenet1_1", "--rounds", 2, "--repository", tmp_path / "models", "--results", result)
    done = run(RELOAD, *given)
    assert done.returncode == 0, done.stderr
    read = read_serving(result)
    assert {(one.part, one.target) for one in read.measured if one.rounds} >= {
        *(("squeezenet1_1, torch", target) for target in ("warm", "disk", "load", "read", "jit.load", "torch.load")),
        *((f"squeezenet1_1, {engine}", "bare") for engine in ("onnxruntime", "openvino")),
    }
    extra, *sessions = [one for one in read.ratios if "reading its file" not in one.text]
    assert (extra.unit, len(extra.values)) == ("ms", 2)
    assert [(one.at_most, len(one.values)) for one in sessions] == [(1.0, 2)] * 2
    assert dlreport([str(result)]) == 0


def test_several_front_ends_are_held_against_one_by_what_the_cores_allow(tmp_path: Path) -> None:
    done = run(FRONT_ENDS, "--rounds", 1, "--seconds", 1, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_serving(tmp_path)
    assert [(one.target, one.clients) for one in result.measured] == [("1 front end", 8), ("2 front ends", 8)]
    (ratio,) = result.ratios
    assert ratio.goal == ("at least 1.7" if cores() >= 4 else "at least 0.9")
    assert len(ratio.values) == 1


@pytest.mark.parametrize(
    ("ratio", "words", "verdict"),
    [
        (Ratio(text="", values=(1.2, 1.4, 9.0), at_least=1.3), "at least 1.3", True),
        (Ratio(text="", values=(1.2, 1.29, 9.0), at_least=1.3), "at least 1.3", False),
        (Ratio(text="", values=(1.2, 1.4, 1.6), at_most=1.3), "at most 1.3", False),
        (Ratio(text="", values=(1.2,)), "", None),
        (Ratio(text="", values=(), at_least=1.3), "at least 1.3", None),
    ],
)
def test_a_goal_is_about_the_median_of_the_rounds(ratio: Ratio, words: str, verdict: bool | None) -> None:
    assert (ratio.goal, ratio.met) == (words, verdict)


def test_ratios_that_have_no_logarithm_are_in_the_table_and_not_in_the_picture(tmp_path: Path) -> None:
    found = (Ratio(text="nothing came", values=(0.0,), at_least=0.95), Ratio(text="less", unit="%", values=(-1.0, 2.0)))
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(serving(ratios=found)))
    assert dlreport([str(tmp_path)]) == 0
    rows = list(csv.DictReader((tmp_path / "tables/ratios.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["met"] for row in rows] == ["no", ""]
    assert not (tmp_path / "pictures").exists() or not list((tmp_path / "pictures").iterdir())


def serving(**more: object) -> Serving:
    """run.json."""
    result = Serving(
        schema=SERVING_SCHEMA,
        kind="serving",
        title="Peers",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command=(),
        environment=environment(),
        measured=(),
        ratios=(),
    )
    return msgspec.structs.replace(result, **more)


def test_a_peer_without_figures_is_a_row_that_says_why(tmp_path: Path) -> None:
    rows = (
        Measured(part="zero", target="dlserve", clients=8, rounds=(Round(p50_s=0.001, rate_per_s=9.0),)),
        Measured(part="Other", target="Other", clients=8, failure="cannot be installed here: no such package"),
    )
    result = serving(measured=rows)
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(result))
    assert answer(result) == "Peers: 0 of 0 goals met, 1 targets without figures"
    assert dlreport([str(tmp_path)]) == 0
    assert "cannot be installed here: no such package" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("script", "given", "said"),
    [
        (BENCH, ("--only", "zero,nothing"), "no part nothing; there are: zero, stages, networks"),
        (PEERS, ("--only", "Nobody"), "no peer Nobody; there are: LitServe"),
    ],
)
def test_an_unknown_part_is_named_with_those_that_there_are(script: Path, given: tuple[str, ...], said: str) -> None:
    done = run(script, *given)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_damaged_result_is_told_from_one_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text(f'{{"schema": "{SERVING_SCHEMA}", "kind": "serving"}}', encoding="utf-8")
    assert dlreport([str(tmp_path)]) == 1
    assert "no result of make bench" in capsys.readouterr().err
