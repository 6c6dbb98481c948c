"""dlclient.bench.max_batch: exact bounds, memory told apart from every other failure, and processes that really run out."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from dlclient.bench.attempt import attempt
from dlclient.bench.job import Budget, Entered, Event, Job, Progress
from dlclient.bench.max_batch import measure, search
from dlclient.bench_result import Point, Setting
from dlclient.errors import PointError

CHILD = """
import ctypes, os, sys, msgspec
from dlclient.bench.job import Ended, Entered, Failed, Job
from dlclient.bench_result import Failure, Point
events = os.fdopen(int(sys.argv[sys.argv.index("--events-fd") + 1]), "wb", buffering=0)
def tell(event): events.write(msgspec.json.encode(event) + b"\\n")
job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
batch = job.setting.batch_size
tell(Entered("measure", 60.0))
{behaviour}
tell(Ended(Point(id="", setting=job.setting, started="", seconds=0.0, read_back={{"threads": 1}}, model_bytes=7, simulated=True)))
"""
"""A process of a point that needs no framework. It is told of `batch`, and may `tell` a Failed and end."""

FAILED = 'tell(Failed(Failure(kind="{kind}", stage="measure", text="made up"))); sys.exit()'
ALLOCATES = f"""
try:
    kept = bytearray(batch << 23)
except MemoryError:
    {FAILED.format(kind="out-of-memory")}
"""


def child(behaviour: str) -> tuple[str, ...]:
    """The command of such a process."""
    return sys.executable, "-c", CHILD.format(behaviour=behaviour)


def job(memory_limit_bytes: int | None = None, most_images: int = 4096) -> Job:
    return Job(
        setting=Setting(model="m", question="max-batch"),
        budget=Budget(start_timeout_s=60.0),
        memory_limit_bytes=memory_limit_bytes,
        most_images=most_images,
    )


def failing(**from_size: int) -> Callable[[int], str]:
    """A batch fails by the kind whose bound it reaches."""
    kinds = {kind.replace("_", "-"): size for kind, size in from_size.items()}
    return lambda size: next((kind for kind, bound in kinds.items() if size >= bound), "")


@pytest.mark.parametrize("bound", [1, 2, 3, 4, 5, 6, 17, 63, 64, 65, 100])
def test_the_search_is_exact(bound: int) -> None:
    found = search(failing(out_of_memory=bound), 100)
    assert (found.largest, found.smallest_failed, found.ended_by) == (bound - 1, bound, "")
    sizes = [size for size, _ in found.tries]
    assert len(sizes) == len(set(sizes)) <= 14
    assert all(bool(kind) == (size >= bound) for size, kind in found.tries)


def test_a_search_up_to_its_limit_tries_the_limit_and_no_more() -> None:
    found = search(failing(), 100)
    assert [size for size, _ in found.tries] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert (found.largest, found.smallest_failed) == (100, None)


def test_a_network_of_a_fixed_batch_is_bounded_by_it() -> None:
    found = search(failing(unsupported=9), 4096)
    assert (found.largest, found.smallest_failed, found.ended_by) == (8, 9, "")


def test_any_other_failure_ends_the_search_where_it_is() -> None:
    found = search(failing(time_out=16), 4096)
    assert (found.largest, found.smallest_failed, found.ended_by) == (8, 16, "time-out")
    assert [size for size, _ in found.tries] == [1, 2, 4, 8, 16]


def test_a_process_that_exceeds_its_limit_fails_by_memory_and_the_bound_is_found() -> None:
    told: list[Event] = []
    point = measure(job(memory_limit_bytes=256 << 20), told.append, command=child(ALLOCATES))
    found = point.max_batch
    assert found is not None
    assert found.limit_bytes == 256 << 20
    assert 8 <= found.largest < 32, "of 8 MiB an image, less what Python itself needs"
    assert found.smallest_failed == found.largest + 1
    assert dict(found.tries)[found.smallest_failed] == "out-of-memory"
    assert (point.reasons, point.warnings) == ((), ())
    assert (point.simulated, point.model_bytes, point.read_back["threads"]) == (True, 7, 1)
    resident = point.read_back["resident_bytes"]
    assert isinstance(resident, int)
    assert resident > found.largest << 23
    assert str(point.read_back["memory_limit"]).startswith("RLIMIT_DATA")
    assert point.id == job().setting.id
    assert {event.stage for event in told if isinstance(event, Entered)} == {"search"}
    fractions = [event.fraction for event in told if isinstance(event, Progress)]
    assert len(fractions) == len(found.tries)
    assert fractions == sorted(fractions)


def test_a_process_that_dies_for_want_of_memory_is_told_from_one_that_dies_anyway() -> None:
    """What dies of a refused allocation lives when nothing is refused, and what dies anyway does not."""
    dies_of_memory = "if batch >= 3:\n    try: kept = bytearray(512 << 20)\n    except MemoryError: os.abort()"
    point = measure(job(memory_limit_bytes=256 << 20, most_images=4), lambda _: None, command=child(dies_of_memory))
    assert point.max_batch is not None
    assert point.max_batch.tries == ((1, ""), (2, ""), (4, "out-of-memory"), *[(3, "out-of-memory")] * 2)
    assert point.reasons == ()

    dies = measure(
        job(memory_limit_bytes=256 << 20, most_images=4), lambda _: None, command=child("if batch > 2: os.abort()")
    )
    assert dies.max_batch is not None
    assert dies.max_batch.tries == ((1, ""), (2, ""), (4, "crash"))
    (reason,) = dies.reasons
    assert reason.code == "search-ended"
    assert "4 failed by crash" in reason.text


def test_not_even_one_image_is_an_answer_where_memory_is_what_lacks() -> None:
    point = measure(
        job(memory_limit_bytes=256 << 20), lambda _: None, command=child(FAILED.format(kind="out-of-memory"))
    )
    assert point.max_batch is not None
    assert (point.max_batch.largest, point.max_batch.smallest_failed) == (0, 1)
    assert point.model_bytes is None


def test_not_even_one_image_is_a_failure_where_something_else_is_wrong() -> None:
    with pytest.raises(PointError, match="a batch of 1 already failed: made up") as caught:
        measure(job(), lambda _: None, command=child(FAILED.format(kind="error")))
    assert caught.value.kind == "error"


def test_a_gpu_is_limited_by_its_own_memory_alone(capfd: pytest.CaptureFixture[str]) -> None:
    unlimited = "import resource; assert resource.getrlimit(resource.RLIMIT_DATA)[0] == -1\n" + FAILED.format(
        kind="out-of-memory"
    )
    asked = Job(setting=Setting(model="m", question="max-batch", device="cuda:0"), memory_limit_bytes=1)
    point = measure(
        asked, lambda _: None, command=child(f"if batch > 1:\n    {unlimited.replace(chr(10), chr(10) + '    ')}")
    )
    assert point.max_batch is not None
    assert (point.max_batch.largest, point.max_batch.limit_bytes) == (1, None)
    assert point.read_back["memory_limit"] == "the device's memory"
    assert "batch of 2 in all the memory that there is: out-of-memory in measure: made up" in capfd.readouterr().err


def test_a_bound_that_is_not_the_memory_is_said() -> None:
    network = measure(
        job(most_images=2), lambda _: None, command=child(f"if batch > 1: {FAILED.format(kind='unsupported')}")
    )
    assert [warning.code for warning in network.warnings] == ["bounded-by-the-network"]
    open_end = measure(job(most_images=1), lambda _: None, command=child(""))
    assert [warning.code for warning in open_end.warnings] == ["bounded-by-the-search"]


def test_a_bound_that_memory_draws_by_chance_is_called_uncertain(tmp_path: Path) -> None:
    """The first process that tries a batch of 2 finds no memory, the second does."""
    once = f"""
from pathlib import Path
seen = Path({str(tmp_path / "seen")!r})
if batch == 2 and not seen.exists():
    seen.touch()
    {FAILED.format(kind="out-of-memory")}
"""
    point = measure(job(), lambda _: None, command=child(once))
    assert point.max_batch is not None
    assert point.max_batch.tries == ((1, ""), (2, "out-of-memory"), (2, ""))
    assert point.max_batch.largest == 1
    assert [warning.code for warning in point.warnings] == ["uncertain-bound"]


def test_a_server_is_refused() -> None:
    asked = Job(setting=Setting(model="m", question="max-batch", target="http://127.0.0.1:1"))
    with pytest.raises(PointError, match="leave the target out") as caught:
        measure(asked, lambda _: None)
    assert caught.value.kind == "unsupported"


def test_a_process_that_hangs_is_ended_and_its_stage_named() -> None:
    outcome = attempt(job(), command=child('tell(Entered("warm-up", 0.05)); sys.stdin.close()\nwhile True: pass'))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.stage) == ("time-out", "warm-up")
    assert outcome.resident_bytes > 1 << 20


def test_a_process_that_ends_without_a_word_is_told_by_its_signal_or_code() -> None:
    aborted = attempt(job(), command=child('tell(Entered("load", 60.0)); os.abort()'))
    assert aborted.failure is not None
    assert (aborted.failure.kind, aborted.failure.stage) == ("crash", "load")
    assert "crashed (Aborted, signal 6)" in aborted.failure.text
    gone = attempt(job(), command=(sys.executable, "-c", "raise SystemExit(3)"))
    assert gone.failure is not None
    assert (gone.failure.kind, gone.failure.stage) == ("error", "start")
    assert "exit code 3" in gone.failure.text


def test_an_attempt_leaves_no_process_and_no_descriptor() -> None:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    outcome = attempt(job(), command=child(""))
    assert isinstance(outcome.point, Point)
    assert outcome.kind == ""
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


ATTEMPTS = """
import subprocess
import sys
from dlclient.bench.attempt import attempt
from dlclient.bench.job import Job
from dlclient.bench_result import Setting
attempt(Job(setting=Setting(model="m")), command=(sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"))
"""


def test_a_try_ends_with_whoever_made_it_however_that_was() -> None:
    with subprocess.Popen([sys.executable, "-c", ATTEMPTS], stdout=subprocess.PIPE, text=True) as searching:
        assert searching.stdout is not None
        tried = psutil.Process(int(searching.stdout.readline()))
        searching.kill()
        psutil.wait_procs([tried], timeout=60.0)
    assert not tried.is_running()
