"""`dlload mlperf`: the real LoadGen in a process of its own, against a real dlserve with a simulated model.

Nothing here depends on how quick the machine is: the bounds are far away, and counts are what is compared.
"""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from dlclient.results import Record, read_plan, read_records
from dlload.mlperf.result import MlperfResult, read_result
from dlload.mlperf.summary import ACCURACY_FILE, DETAIL_FILE, SUMMARY_FILE

from tests.conftest import COMMANDS, DEADLINE_S, Server, sample, simulated
from tests.loadgen.conftest import Call, Reply

if TYPE_CHECKING:
    from tests.loadgen.conftest import FakeServer

Serve = Callable[..., "FakeServer"]
Start = Callable[..., "subprocess.Popen[str]"]
SERVER = ("--scenario", "Server", "--target-qps", "60", "--target-latency", "60", "--percentile", "0.9")
SINGLE = ("--scenario", "SingleStream", "--min-duration", "0.3", "--target-latency", "0.0001")


@pytest.fixture(scope="module")
def dlserve() -> Iterator[Server]:
    """One worker; the models a and b take 5 and 2 ms."""
    server = Server("--workers", "1")
    try:
        server.wait_ready()
        with server.client() as client:
            simulated(client, "a", forward_s=0.005)
            simulated(client, "b", forward_s=0.002)
        yield server
    finally:
        server.stop()


@pytest.fixture
def mlperf(tmp_path: Path) -> Iterator[Start]:
    """Start `dlload mlperf URL ...` in tmp_path, with the results in `out`."""
    (tmp_path / "pictures").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"\xff\xd8" + name.encode() * 100)
    started: list[subprocess.Popen[str]] = []

    def start(
        url: str, *options: str, command: tuple[str, ...] = (str(COMMANDS / "dlload"),)
    ) -> "subprocess.Popen[str]":
        common = ("mlperf", "--target", url, "--images", "pictures", "--results", "out")
        started.append(
            subprocess.Popen(
                [*command, *common, *options],
                cwd=tmp_path,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate(timeout=DEADLINE_S)


def end(process: "subprocess.Popen[str]", code: int, folder: Path) -> tuple[MlperfResult, list[Record], str]:
    """Wait for the end; the result, and everything that was printed."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, out + err
    return read_result(folder / "out"), read_records(folder / "out"), out + err


def codes(result: MlperfResult) -> list[str]:
    return [reason.code for reason in result.reasons]


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ((*SERVER, "--min-duration", "1", "--min-queries", "60"), 60),
        ((*SINGLE, "--min-queries", "70"), 70),
        (
            (
                *("--scenario", "MultiStream", "--samples-per-query", "4", "--percentile", "0.9"),
                *("--min-queries", "70", "--min-duration", "0.3"),
            ),
            280,
        ),
        # one worker needs at least 2 ms for a batch, and a batch has at most the 4 samples in flight
        (
            (
                *("--scenario", "Offline", "--target-qps", "100", "--connections", "4"),
                *("--min-queries", "200", "--min-duration", "0.05"),
            ),
            200,
        ),
    ],
    ids=["Server", "SingleStream", "MultiStream", "Offline"],
)
def test_loadgen_says_valid_and_counts_what_the_server_counts(
    dlserve: Server, mlperf: Start, tmp_path: Path, options: tuple[str, ...], samples: int
) -> None:
    with dlserve.client() as client:
        before = served(client)
        result, records, said = end(mlperf(dlserve.url, *options, "--seed", "5"), 0, tmp_path)
        asked = served(client) - before
    assert result.verdict == "valid"
    assert result.loadgen is not None
    assert result.loadgen.validity == "VALID"
    assert "VALID (SIMULATED device): MLPerf" in said.splitlines()[said.splitlines().index("") + 1]
    warm_up = 2  # each service once on the one worker
    assert asked == result.released + warm_up
    assert result.released == len(records) >= samples
    assert (result.errors, result.temperatures) == (0, {"warm": len(records)})
    # sample i is slot i of the plan, drawn from the seed
    _, slots = read_plan(tmp_path / "out")
    assert all(
        (record.model, record.image) == (slots[record.index].model, *slots[record.index].images) for record in records
    )
    assert {record.model for record in records} == {"a", "b"}
    # from the call that issued it to its answer
    assert all(record.due_s <= record.sent_s < (record.first_byte_s or 0) <= record.done_s for record in records)
    # LoadGen's clock starts no later than ours and ends no earlier than the answer
    assert result.loadgen.latency_s is not None
    assert result.total.latency_s.mean is not None
    assert result.loadgen.latency_s.mean_s >= result.total.latency_s.mean
    assert f"Scenario : {result.settings.scenario}\n" in (tmp_path / "out" / SUMMARY_FILE).read_text()
    assert result.simulated
    check_warnings(result)


def served(client: httpx.Client) -> float:
    """Good answers to predict calls, by the server's own counters."""
    return sum(sample(client, "dlserve_requests_total", service=name, code="200") for name in ("a", "b"))


def check_warnings(result: MlperfResult) -> None:
    """A machine may be slow, or its governor not the best; nothing else is to be warned of."""
    found = {warning.code for warning in result.warnings}
    assert "unstable-windows" not in found or result.settings.scenario != "Offline", "all of it waits from the start"
    assert "simulated" in found <= {"simulated", "send-lag", "cpu-governor", "unstable-windows"}, result.warnings


def test_the_same_seed_sends_the_same_samples_in_the_same_order(dlserve: Server, mlperf: Start, tmp_path: Path) -> None:
    indices: list[list[int]] = []
    for seed in ("5", "5", "6"):
        options = (*SINGLE, "--min-queries", "70", "--seed", seed, "--overwrite")
        _, records, _ = end(mlperf(dlserve.url, *options), 0, tmp_path)
        indices.append([record.index for record in records[:70]])
    assert indices[0] == indices[1] != indices[2]


def test_accuracy_mode_asks_every_sample_once_and_keeps_the_answers(
    dlserve: Server, mlperf: Start, tmp_path: Path
) -> None:
    options = (*SERVER, "--mode", "accuracy", "--samples", "30")
    result, records, said = end(mlperf(dlserve.url, *options), 0, tmp_path)
    assert (result.verdict, result.released) == ("valid", 30)
    assert sorted(record.index for record in records) == list(range(30))
    kept = json.loads((tmp_path / "out" / ACCURACY_FILE).read_text())
    assert sorted(one["qsl_idx"] for one in kept) == list(range(30))
    assert all(json.loads(bytes.fromhex(one["data"]))["status"]["code"] == 200 for one in kept)
    assert "judges no accuracy" in said


def test_an_error_makes_it_invalid_even_if_loadgen_says_valid(serve: Serve, mlperf: Start, tmp_path: Path) -> None:
    def react(call: Call) -> Reply | None:
        return Reply(status=500, message="out of memory") if call.worker is None and call.number % 10 == 0 else None

    result, records, said = end(mlperf(serve(react=react).url, *SINGLE, "--min-queries", "70"), 1, tmp_path)
    assert result.loadgen is not None
    assert result.loadgen.validity == "VALID"
    assert codes(result) == ["errors"]
    failed = [record for record in records if record.error]
    assert result.errors == len(failed) > 0
    assert {record.error for record in failed} == {"HTTP 500: out of memory"}
    assert said.splitlines()[said.splitlines().index("") + 1].startswith("INVALID: MLPerf SingleStream")
    assert "LoadGen says VALID" in said


def test_a_bound_that_is_not_kept_is_named(dlserve: Server, mlperf: Start, tmp_path: Path) -> None:
    options = ("--scenario", "Server", "--target-qps", "100", "--target-latency", "0.000001", "--min-duration", "0.3")
    result, _, said = end(mlperf(dlserve.url, *options, "--min-queries", "20"), 1, tmp_path)
    assert codes(result) == ["latency-bound", "early-stopping"]
    assert "the latency bound was not kept" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_on_disk_and_marked(
    serve: Serve, mlperf: Start, tmp_path: Path, number: signal.Signals
) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.number == 30:
            reached.set()
            released.wait(DEADLINE_S)

    process = mlperf(serve(react=hold).url, *SINGLE)
    assert reached.wait(DEADLINE_S)
    process.send_signal(number)
    try:
        result, records, said = end(process, 130, tmp_path)
    finally:
        released.set()
    assert (result.verdict, result.interrupted, result.loadgen) == ("invalid", True, None)
    assert codes(result) == ["interrupted", "errors"]
    warm_up = 4  # two services on each of two workers
    assert [record.error for record in records] == [
        *[""] * (30 - warm_up - 1),
        "abandoned: the run ended before the answer came",
    ]
    assert (result.released, result.errors) == (len(records), 1)
    assert (tmp_path / "out" / DETAIL_FILE).exists()
    assert "interrupted by a signal" in said


def test_a_server_that_goes_away_ends_the_run(serve: Serve, mlperf: Start, tmp_path: Path) -> None:
    def react(call: Call) -> Reply | None:
        return Reply(hang_up=True) if call.number > 30 else None

    result, records, said = end(mlperf(serve(react=react).url, *SINGLE, "--min-duration", "10"), 1, tmp_path)
    assert result.interrupted
    assert codes(result)[0] == "interrupted"
    assert "the server stopped answering" in said
    assert sum(record.ok for record in records) == 26


def test_what_goes_wrong_while_warming_up_is_a_result_too(serve: Serve, mlperf: Start, tmp_path: Path) -> None:
    server = serve(react=lambda call: Reply(status=500, message="no such layer") if call.service == "beta" else None)
    result, records, said = end(mlperf(server.url, *SINGLE), 1, tmp_path)
    assert (result.interrupted, result.released, records) == (True, 0, [])
    assert "warming up service beta" in said
    assert "no such layer" in said


def test_any_deepdetect_server_can_be_the_target(serve: Serve, mlperf: Start, tmp_path: Path) -> None:
    server = serve(dlserve=False)
    result, _, _ = end(mlperf(server.url, *SINGLE, "--services", "alpha", "--min-queries", "70"), 0, tmp_path)
    assert result.target.protocol == "deepdetect"
    assert result.samples.services == ("alpha",)
    assert "temperature-unknown" in {warning.code for warning in result.warnings}


def test_without_loadgen_the_extra_is_named_and_nothing_is_made(serve: Serve, mlperf: Start, tmp_path: Path) -> None:
    code = "import sys; sys.modules['mlperf_loadgen'] = None; from dlload.cli import main; sys.exit(main())"
    process = mlperf(serve().url, *SINGLE, command=(sys.executable, "-c", code))
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "pip install 'dlserve[mlperf]'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--scenario", "Server"), 2, "dlload: the scenario Server needs --target-qps"),
        (("--scenario", "Batch"), 2, "invalid choice: 'Batch'"),
        ((*SINGLE, "--services", "gamma"), 1, "has no service gamma"),
        ((*SINGLE, "--images", "nowhere"), 1, "--images nowhere: no such folder"),
        ((*SINGLE, "--results", "pictures"), 1, "--results pictures: not empty"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(
    serve: Serve, mlperf: Start, options: tuple[str, ...], code: int, text: str
) -> None:
    server = serve()
    process = mlperf(server.url, *options)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, server.calls) == (code, [])
    assert text in err
    assert "Traceback" not in err


def test_no_server_is_told(mlperf: Start) -> None:
    process = mlperf("http://127.0.0.1:9", *SINGLE)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "no server at http://127.0.0.1:9" in err


def test_neither_gevent_nor_locust_is_in_the_process() -> None:
    code = "import sys, dlload.cli; print(*sorted({'gevent', 'locust', 'geventhttpclient'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert not done.stdout.strip()
