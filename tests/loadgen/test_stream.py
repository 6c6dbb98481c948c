"""The real locust runs loadgen/stream.py in a process of its own against a small server on real sockets."""

import signal
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from dlclient.results import Seeds, read_plan, read_run
from dlload.options import COMMAND_LINE_ONLY

from tests.loadgen.conftest import NO_TREND, QUICK, STREAM, Call, Reply, codes, end, wait_until, with_page
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.loadgen.conftest import FakeServer, Locust

Serve = Callable[..., "FakeServer"]
Start = Callable[..., "Locust"]
pytestmark = pytest.mark.usefixtures("pictures")


def test_warm_and_cold_against_dlserve(serve: Serve, locust: Start, tmp_path: Path) -> None:
    server = serve()
    run, records, said = end(locust(*QUICK, "-u", "4", "-H", server.url, "--requests", str(NO_TREND), "--seed", "5"), 0)
    assert (run.verdict, run.interrupted, run.simulated, run.target.protocol) == ("valid", False, False, "raw")
    assert [phase.temperatures for phase in run.phases] == [{"warm": NO_TREND}, {"disk": NO_TREND}]
    header, slots = read_plan(tmp_path / "out")
    for phase in ("warm", "disk"):
        own = sorted((record for record in records if record.phase == phase), key=lambda record: record.index)
        assert [(record.index, record.model, (record.image,)) for record in own] == [
            (slot.index, slot.model, slot.images) for slot in slots
        ]
        assert all(record.due_s <= record.sent_s <= (record.first_byte_s or 0) <= record.done_s for record in own)
    assert header.seeds == run.plan.seeds == Seeds.all(5)
    assert [len(server.measured(cache)) for cache in (None, "disk")] == [NO_TREND, NO_TREND]
    # every model ran on every worker before each of the clocks started
    pinned = [(call.service, call.worker) for call in server.calls if call.worker is not None]
    assert sorted(pinned) == sorted([("alpha", 0), ("alpha", 1), ("beta", 0), ("beta", 1)] * 2)
    assert f"VALID: {NO_TREND} requests a phase, 4 users" in said
    assert run.plan.users == 4
    # what a cold request takes longer is the 20 ms that the fake says it loads
    disk = run.phases[1]
    assert disk.services["alpha"].load_bytes_per_s == pytest.approx(40e6 / 0.020)
    assert disk.services["beta"].load_bytes_per_s == pytest.approx(100e6 / 0.020)
    assert disk.total.stages_s is not None
    assert disk.total.stages_s["load"] == pytest.approx(0.020)


def test_any_deepdetect_server_can_be_the_target(serve: Serve, locust: Start) -> None:
    server = serve(dlserve=False)
    run, records, said = end(locust(*QUICK, "-u", "2", "-H", server.url, "--requests", "30"), 1)
    assert run.target.protocol == "deepdetect"
    assert not any(call.raw for call in server.calls)
    assert [phase.verdict for phase in run.phases] == ["valid", "invalid"]
    assert [reason.code for reason in run.reasons] == ["temperature-unknown"], "what it calls cold may be warm"
    assert [warning.code for warning in run.warnings] == ["temperature-unknown"]
    assert "Use --phases warm for this server." in said
    assert [phase.temperatures for phase in run.phases] == [{"unknown": 30}] * 2
    assert {(record.cache, record.worker, record.stages) for record in records} == {(None, None, None)}
    assert {record.server_s for record in records} == {0.0025}
    assert len(server.calls) == 2 * (30 + 2 * 2), "every model is asked twice before each clock starts"
    assert "The server does not tell its stages." in said


def test_a_wrong_temperature_makes_the_result_invalid(serve: Serve, locust: Start) -> None:
    def lie(call: Call) -> Reply | None:
        return Reply(cache="warm") if call.cache == "disk" and call.number % 10 == 0 else None

    run, _, said = end(locust(*QUICK, "-H", serve(react=lie).url, "--requests", "40"), 1)
    assert codes(run) == ["wrong-temperature"]
    assert [phase.verdict for phase in run.phases] == ["valid", "invalid"]
    assert said.index("INVALID") < said.index("reason: disk: 4 of 40 answers found the weights elsewhere")


def test_an_error_is_counted_told_and_not_retried(serve: Serve, locust: Start) -> None:
    def fail(call: Call) -> Reply | None:
        if call.worker is None and call.number % 7 == 0:
            return Reply(status=500, message="out of order") if call.number % 2 else Reply(hang_up=True)
        return None

    server = serve(react=fail)
    run, records, said = end(locust(*QUICK, "-H", server.url, "--requests", "50", "--phases", "warm"), 1)
    failed = [record for record in records if record.error]
    assert {record.status for record in failed} == {0, 500}
    assert len(server.measured(None)) == len(records) == 50
    assert run.phases[0].total.errors == len(failed)
    assert run.phases[0].total.latency_n == 50 - len(failed)
    assert codes(run) == ["errors"]
    assert "HTTP 500: out of order" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_result_that_says_so(serve: Serve, locust: Start, number: signal.Signals) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.cache == "disk" and call.number > 40:
            reached.set()
            released.wait(60)

    server = serve(react=hold)
    one = locust(*QUICK, "-u", "3", "-H", server.url, "--requests", "30")
    assert reached.wait(60)
    one.interrupt(number)
    try:
        run, records, said = end(one, 1)
    finally:
        released.set()
    assert run.interrupted
    assert codes(run)[0] == "interrupted"
    assert "incomplete" in codes(run)
    warm = [record for record in records if record.phase == "warm"]
    assert len(warm) == 30
    assert all(record.ok for record in warm)
    assert run.phases[0].verdict == "valid"
    abandoned = [record for record in records if record.error]
    assert 1 <= len(abandoned) <= 3
    assert {record.error.partition(":")[0] for record in abandoned} == {"abandoned"}
    assert "INVALID" in said


def test_a_run_time_that_is_too_short_is_an_interrupt(serve: Serve, locust: Start) -> None:
    released = threading.Event()

    def hold(call: Call) -> None:
        if call.worker is None and call.number > 10:
            released.wait(60)

    try:
        run, records, _ = end(locust(*QUICK, "-t", "4s", "-H", serve(react=hold).url, "--requests", "30"), 1)
    finally:
        released.set()
    assert run.interrupted
    assert "--run-time" in run.reasons[0].text
    assert len(records) < 30


def test_a_server_that_dies_ends_the_run(serve: Serve, locust: Start) -> None:
    def die(call: Call) -> Reply | None:
        return Reply(hang_up=True) if call.worker is None and call.number > 30 else None

    run, records, _ = end(locust(*QUICK, "-u", "2", "-H", serve(react=die).url, "--requests", "500"), 1)
    assert codes(run)[0] == "interrupted"
    assert "the server stopped answering" in run.reasons[0].text
    assert len(records) < 50


def altered(folder: Path, change: str) -> tuple[str, str]:
    """Arguments for the stream as a locustfile with a `change` at its end."""
    (folder / "altered.py").write_text(
        f"import sys; sys.path.insert(0, {str(STREAM.parent)!r})\n"
        f"exec(compile(open({str(STREAM)!r}).read(), 'stream.py', 'exec'))\n{change}\n"
    )
    return "-f", "altered.py"


def test_a_last_record_that_cannot_be_written_makes_the_run_invalid(
    serve: Serve, locust: Start, tmp_path: Path
) -> None:
    full = altered(
        tmp_path,
        "from dlload.recorder import Recorder\n"
        "real = Recorder.write\n"
        "def write(self, record):\n"
        "    if record.index == 9: raise RecordError('no space left')\n"
        "    real(self, record)\n"
        "Recorder.write = write",
    )
    run, records, _ = end(locust(*QUICK, *full, "-H", serve().url, "--requests", "10", "--phases", "warm"), 1)
    assert run.interrupted
    assert codes(run) == ["interrupted", "incomplete"]
    assert "no space left" in run.reasons[0].text
    assert len(records) == run.phases[0].total.requests == 9


def test_a_bug_at_the_start_does_not_hang(serve: Serve, locust: Start, tmp_path: Path) -> None:
    broken = altered(tmp_path, "def start_run(*_): raise ZeroDivisionError('unforeseen')")
    server = serve()
    code, _, err = locust(*QUICK, *broken, "-H", server.url).wait()
    assert code == 1
    assert "a bug of the load tester" in err
    assert "ZeroDivisionError: unforeseen" in err
    assert server.calls == []


def test_cold_before_warm_has_its_rate_too(serve: Serve, locust: Start) -> None:
    ask = ("--phases", "disk,warm", "--requests", str(NO_TREND))
    run, _, said = end(locust(*QUICK, *ask, "-H", serve().url), 0)
    assert [phase.name for phase in run.phases] == ["disk", "warm"]
    assert run.phases[0].services["alpha"].load_bytes_per_s == pytest.approx(40e6 / 0.020)
    assert "Send lag: from due to sent" in said


def test_a_second_interrupt_does_not_cost_the_result(serve: Serve, locust: Start) -> None:
    reached, released, asked, answered = (threading.Event() for _ in range(4))

    def hold(call: Call) -> None:
        if call.cache == "disk":
            reached.set()
            released.wait(60)

    def last_look() -> None:
        if reached.is_set():  # the run is being written: it asks whether the workers are still the same
            asked.set()
            answered.wait(4)

    server = serve(react=hold, on_info=last_look)
    one = locust(*QUICK, "-H", server.url, "--requests", "30")
    assert reached.wait(60)
    one.interrupt()
    assert asked.wait(60)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        one.interrupt(number)
    answered.set()
    try:
        run, _, _ = end(one, 1)
    finally:
        released.set()
    assert run.interrupted


def test_equal_seeds_give_identical_plans(serve: Serve, locust: Start, tmp_path: Path) -> None:
    ask = ("--headless", "--no-report", "--images", "pictures", "--requests", "60", "--phases", "disk", "--seed", "11")
    mix = ("--mix", "zipf:1", "--services", "beta,alpha")
    for one in [locust(*ask, *mix, "-H", serve().url, "--results", folder) for folder in ("one", "two")]:
        assert one.wait()[0] == 0
    plans = [(tmp_path / folder / "plan.jsonl").read_bytes() for folder in ("one", "two")]
    assert plans[0] == plans[1]
    assert {read_run(tmp_path / folder).plan.sha256 for folder in ("one", "two")} == {sha256(plans[0]).hexdigest()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--services", "alpha,gamma"), "has no service gamma (it has alpha, beta)"),
        (("--mix", "alpha=1"), "no weight for beta"),
        (("--results", "pictures"), "not empty"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_sent(
    serve: Serve, locust: Start, arguments: tuple[str, ...], says: str
) -> None:
    server = serve()
    one = locust(*QUICK, *arguments, "-H", server.url)
    code, out, err = one.wait()
    assert code == 1
    assert says in err
    assert "Traceback" not in out + err
    assert server.calls == []
    assert not (one.folder / "out").exists()


def test_a_server_that_is_not_there_is_told(locust: Start) -> None:
    port = free_port()
    code, out, err = locust(*QUICK, "-H", f"http://127.0.0.1:{port}").wait()
    assert code == 1
    assert f"no server at http://127.0.0.1:{port}" in err
    assert "Traceback" not in out + err


def test_a_model_that_fails_is_told_before_the_clock_starts(serve: Serve, locust: Start) -> None:
    def fail(call: Call) -> Reply | None:
        return Reply(status=500, message="weights are damaged") if call.service == "beta" else None

    run, records, said = end(locust(*QUICK, "-H", serve(react=fail).url), 1)
    assert records == []
    assert "warming up service beta on worker" in run.reasons[0].text
    assert "weights are damaged" in said


OLD_INI = """\
# the stream test of 2018
models = [alpha, gamma]
img_dir = pictures
result_dir = out
model_dir = models
gpu_num = 2
batchsize = 2
times = 12
"""
OLD_TOML = """\
[tool.locust]
models = ["alpha", "gamma"]
img_dir = "pictures"
result_dir = "out"
model_dir = "models"
gpu_num = 2
batchsize = 2
times = 12
"""


@pytest.mark.parametrize(("name", "content"), [("stream.conf", OLD_INI), ("stream.toml", OLD_TOML)])
def test_the_configuration_file_of_2018_works(
    serve: Serve, locust: Start, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    server = serve()
    run, records, _ = end(locust("--config", name, "--headless", "--no-report", "-H", server.url), 0)
    assert run.plan.services == ("alpha", "gamma")
    assert run.plan.batch_size == 2
    assert run.plan.images == str(tmp_path / "pictures")
    assert len(records) == 2 * 12
    assert {record.images for record in records} == {2}
    assert {call.images for call in server.calls} == {2}
    assert server.created["gamma"]["model"] == {"repository": str(tmp_path / "models" / "gamma")}
    assert sum(record.images for record in records) == run.phases[0].total.images + run.phases[1].total.images


def test_the_command_line_wins_over_the_configuration_file(serve: Serve, locust: Start, tmp_path: Path) -> None:
    (tmp_path / "stream.conf").write_text("models = alpha\ntimes = 12\nimg_dir = pictures\nresult_dir = other\n")
    ask = ("--config", "stream.conf", "--services", "beta", "--requests", "5", "--headless", "--no-report")
    run, records, _ = end(locust(*ask, "--results", "out", "-H", serve().url, "--phases", "warm"), 0)
    assert run.plan.services == ("beta",)
    assert len(records) == 5


def test_a_key_is_sent_and_what_the_server_tells_of_itself_is_warned_of(
    serve: Serve, locust: Start, tmp_path: Path
) -> None:
    def restart(call: Call) -> None:
        if call.cache == "disk":
            server.generation = 1

    (tmp_path / "key").write_text("secret\n")
    server = serve(react=restart, simulated=True)
    run, _, said = end(locust(*QUICK, "-H", server.url, "--requests", "5", "--api-key-file", "key"), 1)
    assert {call.key for call in server.calls} == {"Bearer secret"}
    assert [warning.code for warning in run.warnings] == ["simulated"]
    assert codes(run) == ["server-restarted"]
    assert run.simulated
    assert "INVALID (SIMULATED device)" in said


def test_help_shows_the_options_of_the_stream(locust: Start) -> None:
    code, out, _ = locust("--stream-help").wait()
    assert code == 0
    assert "Stream options:" in out
    for option in ("--services", "--mix", "--images", "--requests", "--phases", "--seed", "--results", "--batch-size"):
        assert f"  {option}" in out


def test_the_report_is_written_into_the_result_folder(serve: Serve, locust: Start, tmp_path: Path) -> None:
    ask = ("--headless", "--results", "out", "--images", "pictures", "--requests", "40")
    _, _, said = end(locust(*ask, "-H", serve().url), 0)
    assert f"report: {Path('out') / 'report.html'}" in said
    assert "alpha" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_each_start_in_the_web_page_is_a_run_and_stop_interrupts_it(
    serve: Serve, locust: Start, tmp_path: Path
) -> None:
    reached, released = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.service == "beta" and call.worker is None:
            reached.set()
            released.wait(60)

    server = serve(react=hold)
    one, url = with_page(locust, "--images", "pictures", "--requests", "20", "--phases", "warm", "-H", server.url)
    with httpx.Client(base_url=url) as web:
        page = web.get("/").text.replace("&#34;", '"')
        assert '"mix"' in page, "our options are among the page's fields"
        assert not [name for name in COMMAND_LINE_ONLY if f'"{name}"' in page]
        start = {"user_count": "2", "spawn_rate": "2", "host": server.url, "services": "alpha"}
        assert web.post("/swarm", data=start | {"services": "gamma"}).json()["success"]
        wait_until(lambda: "has no service gamma" in web.get("/exceptions").text)
        paths = dict.fromkeys(COMMAND_LINE_ONLY, "/nowhere") | {"overwrite": "true"}
        assert web.post("/swarm", data=start | paths).json()["success"], "what names files is not taken from a form"
        wait_until((tmp_path / "out" / "run.json").exists)
        assert web.post("/swarm", data=start | {"seed": "9"}).json()["success"]
        wait_until((tmp_path / "out-2" / "run.json").exists)
        assert web.post("/swarm", data=start | {"services": "beta"}).json()["success"]
        assert reached.wait(60)
        assert web.post("/stop").json()["success"]
        released.set()
    one.interrupt()
    assert one.wait()[0] == 1
    runs = [read_run(tmp_path / name) for name in ("out", "out-2", "out-3")]
    assert [run.verdict for run in runs] == ["valid", "valid", "invalid"]
    assert [run.interrupted for run in runs] == [False, False, True]
    assert [run.plan.seeds.models for run in runs] == [1, 9, 9]
    assert "Stop" in runs[2].reasons[0].text
