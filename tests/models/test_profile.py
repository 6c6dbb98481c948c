"""dlmodels.profile: what is known of a simulated model comes back out of a stream at it."""

import json
import math
import random
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dlclient.results import SCHEMA
from dlmodels.cli import main
from dlmodels.engines.simulated import Profile, Quantiles, mean, parse_profile
from dlmodels.errors import ResultError
from dlmodels.profile import Measured, forward_times, measured, sample, write_profiles
from dlmodels.repository import read_model
from dlmodels.stream_result import read_result

from tests.conftest import COMMANDS, DEADLINE_S, Server, simulated

ROOT = Path(__file__).parents[2]
ERRORS = 5.0
"""A mean may be off by so many of its standard errors: less than one run in a million is."""


def line(model: str, cache: str, forward_s: float, load_s: float = 0.0, batch: int = 1, **more: Any) -> dict[str, Any]:
    stages = {"load": load_s, "forward": forward_s}
    return {
        "phase": cache, "model": model, "images": 1, "error": "", "cache": cache, "batch_size": batch, "stages": stages, **more,
    }  # fmt: skip


def write(folder: Path, lines: list[dict[str, Any]], **more: Any) -> Path:
    services = list(dict.fromkeys(one["model"] for one in lines))
    summaries = {service: {"weights_bytes": 1000 * (number + 1)} for number, service in enumerate(services)}
    told = [
        {"name": name, "parameters": {"input": {"connector": "image", "width": 299}, "mllib": {"nclasses": 10}}}
        for name in services
    ]
    run = {
        "schema": SCHEMA,
        "started": "2026-11-23T01:00:00+00:00",
        "verdict": "valid",
        "plan": {"services": services},
        "target": {"info": {"services": told, "dlserve": {"workers": [{"device_name": "Example CPU"}]}}},
        "phases": [{"services": summaries}],
    }
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run | more))
    (folder / "requests.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return folder


def lognormal(draw: random.Random, mean_s: float, jitter: float) -> float:
    variance = math.log1p(jitter**2)
    return mean_s * draw.lognormvariate(-variance / 2, math.sqrt(variance))


def known(seed: int, number: int = 400) -> Iterator[dict[str, Any]]:
    """Forward 20 ms, load 50 ms, from host 5 ms, all with a spread of 0.3, and cold forwards 8 ms longer."""
    draw = random.Random(seed)
    for _ in range(number):
        yield line("a", "warm", lognormal(draw, 0.020, 0.3))
        yield line("a", "disk", lognormal(draw, 0.028, 0.3), lognormal(draw, 0.050, 0.3))
        yield line("a", "host", lognormal(draw, 0.020, 0.3), lognormal(draw, 0.005, 0.3))


def made(folder: Path, output: Path) -> tuple[Profile, Measured]:
    ((path, service),) = write_profiles(read_result(folder), output)
    return parse_profile(read_model(path)), service


@pytest.mark.parametrize("seed", range(5))
def test_known_times_come_back_within_their_standard_errors(tmp_path: Path, seed: int) -> None:
    profile, service = made(write(tmp_path / "result", list(known(seed))), tmp_path / "out")
    assert isinstance(profile.load_s, Quantiles)
    assert isinstance(profile.host_load_s, Quantiles)
    for time, truth_s, error_s in (
        (profile.forward_s[0] if isinstance(profile.forward_s, tuple) else 0.0, 0.020, service.forwards[1].error),
        (profile.load_s, 0.050 + 0.008, service.load_errors["disk"]),
        (profile.host_load_s, 0.005, service.load_errors["host"]),
    ):
        assert 0 < error_s < truth_s / 10, "400 samples tell more than that"
        # the host's forward is the same as the warm one, but chance may say otherwise: then it counts as load
        assert mean(time) == pytest.approx(truth_s, abs=ERRORS * max(error_s, service.forwards[1].error))
    assert profile.bytes == 1000


def test_the_distribution_comes_back_not_just_its_mean(tmp_path: Path) -> None:
    lines = list(known(7, 2000))
    profile, _ = made(write(tmp_path / "result", lines), tmp_path / "out")
    assert isinstance(profile.forward_s, tuple)
    (forward,) = profile.forward_s
    assert isinstance(forward, Quantiles)
    truth = sorted(one["stages"]["forward"] for one in lines if one["cache"] == "warm")
    assert forward.quantiles[10] == pytest.approx(truth[1000], rel=0.02)
    assert forward.quantiles[19] == pytest.approx(truth[1900], rel=0.02)
    assert forward.mean() == pytest.approx(sum(truth) / len(truth), rel=1e-6)


def test_the_model_says_what_it_came_from_and_keeps_input_and_classes(tmp_path: Path) -> None:
    made(write(tmp_path / "result", list(known(1))), tmp_path / "out")
    text = (tmp_path / "out/a/model.toml").read_text()
    assert text.startswith("# Simulated after a stream of 2026-11-23T01:00:00+00:00, served by Example CPU;")
    spec = read_model(tmp_path / "out/a")
    assert (spec.engine, spec.classes, spec.input.width) == ("simulated", 10, 299)
    assert tomllib.loads(text)["parameters"]["decode"] is True


def test_few_samples_become_a_mean_with_a_spread(tmp_path: Path) -> None:
    lines = [line("a", "warm", 0.01 * (1 + index % 2)) for index in range(20)]
    lines += [line("a", "disk", 0.015, 0.1) for _ in range(20)]
    profile, _ = made(write(tmp_path / "result", lines), tmp_path / "out")
    assert profile.forward_seconds(1) == pytest.approx(0.015)
    assert profile.forward_seconds(4) == pytest.approx(0.060)
    assert profile.load_s == pytest.approx(0.1)
    assert profile.jitter == pytest.approx(0.005 * math.sqrt(20 / 19) / 0.015)


def test_a_batch_that_several_requests_shared_counts_once() -> None:
    calls = sample([(0.03, 1 / 3)] * 3 + [(0.01, 1.0)])
    assert calls.size == pytest.approx(2)
    assert calls.mean == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("means", "entries"),
    [
        ({1: 0.01}, (0.01,)),  # the profile's rule goes on in proportion
        ({1: 0.01, 2: 0.014}, (0.01, 0.014, 0.018)),
        ({1: 0.01, 4: 0.04}, (0.01, 0.02, 0.03, 0.04, 0.05)),
        ({2: 0.02}, (0.01, 0.02)),
        ({1: 0.01, 2: 0.03, 3: 0.02}, (0.01, 0.025, 0.025, 0.0325)),  # a larger batch is not quicker
    ],
)
def test_batch_sizes_that_were_not_seen_are_filled_in(means: dict[int, float], entries: tuple[float, ...]) -> None:
    assert forward_times({size: sample([(seconds, 1.0)]) for size, seconds in means.items()}) == pytest.approx(entries)


def test_what_is_missing_is_told_with_what_to_stream(tmp_path: Path) -> None:
    warm = [line("a", "warm", 0.01) for _ in range(20)]
    with pytest.raises(ResultError, match="a: no request began from disk: stream with --phases warm,disk"):
        made(write(tmp_path / "result", warm), tmp_path / "out")
    few = [*warm[:5], *(line("a", "disk", 0.01, 0.1) for _ in range(20))]
    with pytest.raises(ResultError, match="a: 5 warm requests ran in a batch of their own, at least 12"):
        made(write(tmp_path / "result", few), tmp_path / "out")
    few = [*warm, line("a", "disk", 0.01, 0.1)]
    with pytest.raises(ResultError, match="only 1 requests from disk ran alone: stream more --requests"):
        made(write(tmp_path / "result", few), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_failed_requests_and_those_without_stages_count_for_nothing(tmp_path: Path) -> None:
    lines = [*known(1, 30), line("a", "warm", 9.0, error="HTTP 500"), line("a", "warm", 9.0, stages=None)]
    assert max(read_result(write(tmp_path, lines)).calls, key=lambda call: call.stages["forward"]).stages["forward"] < 1
    with pytest.raises(ResultError, match="no good answer tells its stages"):
        read_result(write(tmp_path, [line("a", "warm", 0.1, stages=None)]))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("run.json", "{}", "is no result of a stream"),
        ("run.json", f'{{"schema": "{SCHEMA}"}}', "is no result of a stream"),
        ("requests.jsonl", '{"model": 1}\n', r"requests\.jsonl:1: .*restore the file"),
    ],
)
def test_a_damaged_result_is_told_with_the_place(tmp_path: Path, file: str, content: str, says: str) -> None:
    folder = write(tmp_path, list(known(1, 20)))
    (folder / file).write_text(content)
    with pytest.raises(ResultError, match=says):
        read_result(folder)


def test_a_result_of_another_version_and_a_missing_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="has schema 'dlserve-stream/9'"):
        read_result(write(tmp_path, list(known(1, 20)), schema="dlserve-stream/9"))
    with pytest.raises(ResultError, match=r"cannot read .*nowhere/run\.json"):
        read_result(tmp_path / "nowhere")


def test_models_that_are_there_stay_unless_forced_and_real_ones_always(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["profile", str(write(tmp_path / "result", list(known(1, 20)))), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert "serve them with: dlserve --models-dir" in capsys.readouterr().out
    assert main(command) == 1
    assert "give --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    (tmp_path / "out/a/model.toml").write_text('engine = "torch"\n')
    assert main([*command, "--force"]) == 1
    assert "holds a real model" in capsys.readouterr().err


def test_a_batch_never_counts_for_the_load(tmp_path: Path) -> None:
    alone = [line("a", "disk", 0.01, 0.1) for _ in range(20)]
    shared = [line("a", "disk", 0.05, 0.3, batch=4) for _ in range(20)]
    lines = [line("a", "warm", 0.01) for _ in range(20)] + alone + shared
    service = measured("a", read_result(write(tmp_path, lines)).calls)
    assert service.loads["disk"].mean == pytest.approx(0.1)


def test_a_simulated_machine_streamed_at_comes_back_as_it_was_told(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    truth = {
        "quick": {"forward_s": 0.020, "load_s": 0.050, "host_load_s": 0.020, "jitter": 0.5, "bytes": 3_000_000},
        "slow": {"forward_s": 0.040, "load_s": 0.060, "host_load_s": 0.030, "jitter": 0.5, "bytes": 9_000_000},
    }
    server = start_server("--workers", "2", "--devices", "cpu", "--host-cache-mb", "64").wait_ready()
    with server.client() as client:
        for name, settings in truth.items():
            simulated(client, name, **settings)
    command = [str(COMMANDS / "locust"), "-f", str(ROOT / "loadgen/stream.py"), "--headless", "--users", "2"]
    command += ["--host", server.url, "--requests", "300", "--phases", "warm,host,disk", "--no-report"]
    command += ["--results", str(tmp_path / "result")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    made = write_profiles(read_result(tmp_path / "result"), tmp_path / "out")
    assert {path.name for path, _ in made} == set(truth)
    for path, service in made:
        told, profile = truth[path.name], parse_profile(read_model(path))
        assert profile.bytes == told["bytes"]
        assert not profile.decode
        for time_s, truth_s, error_s in (
            (profile.forward_seconds(1), told["forward_s"], service.forwards[1].error),
            (mean(profile.load_s), told["load_s"], service.load_errors["disk"]),
        ):
            # the tolerance is what the run itself says of its means: 150 draws that vary by half leave 4 % of them
            assert time_s == pytest.approx(truth_s, abs=ERRORS * error_s)
