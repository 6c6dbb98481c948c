"""What the stream reports, beside the truth that a server of known behaviour wrote down; the truth's own rule first.

No claim here depends on how fast the machine is: a record is laid beside the truth of the very same request. How close they
are on a quiet machine is measured by `make fidelity`.
"""

import heapq
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dlclient.results import Record, Run, Slot, Summary, read_plan, read_records, read_run
from dlmodels.engines.base import Place
from dlmodels.engines.simulated import SimulatedEngine
from dlmodels.repository import ModelSpec
from scipy.stats import kstest

from tests.conftest import DEADLINE_S, Server, simulated
from tests.loadgen.fidelity_server import ROOT, STALL_S, FidelityServer, Truth, read_truths, replay, service_times

if TYPE_CHECKING:
    from tests.loadgen.conftest import Locust

Start = Callable[..., "Locust"]
QUICK = ("--headless", "--no-report", "--phases", "warm", "--images", "pictures", "--results", "out")
MICROSECOND_S = 1.1e-6
"""Times in results are rounded to it; two of them may be apart by as much."""
WARMING_UP = 2
"""Requests that the server gets before the first of the plan: the one model is asked twice."""


@pytest.fixture(autouse=True)
def _picture(tmp_path: Path) -> None:
    """One body of the size of a photograph."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"\xff\xd8" + random.Random(1).randbytes(60_000))


@dataclass(frozen=True)
class Measured:
    """A run and the truth about it. `records`: in the order of the plan."""

    run: Run
    slots: Sequence[Slot]
    records: Sequence[Record]
    truths: Sequence[Truth]
    """Of the same requests, in the same order."""
    said: str

    @property
    def started(self) -> float:
        """When its phase began, on the clock that both share."""
        started_s = self.run.phases[0].started_s
        assert started_s is not None
        return started_s

    @property
    def total(self) -> Summary:
        """The figures."""
        return self.run.phases[0].total

    @property
    def codes(self) -> list[str]:
        """Why it is not valid."""
        return [reason.code for reason in self.run.reasons]

    def responses_s(self) -> list[float]:
        """What users waited from when their requests were due, by the server's truth."""
        return [
            truth.answered - self.started - record.due_s
            for record, truth in zip(self.records, self.truths, strict=True)
        ]

    def on_the_way_s(self) -> list[float]:
        """How much longer each request took for the stream than in the server: sockets, and the load tester itself."""
        pairs = zip(self.records, self.truths, strict=True)
        return [record.service_s - truth.server_s for record, truth in pairs]


@pytest.fixture
def measure(locust: Start, tmp_path: Path) -> Callable[..., Measured]:
    """Run the stream against a server: measure("constant:0.01", 1, "--rate", "100", ...)."""

    def run(times: str, servers: int | None, *options: str) -> Measured:
        with FidelityServer(tmp_path, times, servers) as server:
            _, out, err = locust(*QUICK, "-H", server.url, *options).wait()
        assert (tmp_path / "out" / "run.json").exists(), out + err
        records = sorted(read_records(tmp_path / "out"), key=lambda record: record.index)
        by_number = {truth.number: truth for truth in server.truths}
        return Measured(
            run=read_run(tmp_path / "out"),
            slots=read_plan(tmp_path / "out")[1],
            records=records,
            truths=[by_number[record.worker] for record in records if record.worker is not None],
            said=out + err,
        )

    return run


def most_at_once(records: Sequence[Record]) -> int:
    """How many were in flight, at most."""
    changes = sorted([(record.sent_s, 1) for record in records] + [(record.done_s, -1) for record in records])
    return max(accumulate(change for _, change in changes))


def share_above(samples: Sequence[float], limit: float) -> float:
    return sum(sample > limit for sample in samples) / len(samples)


# ---- the truth itself ----


def test_the_server_leaves_no_one_waiting_where_there_are_servers_enough() -> None:
    assert replay([0.0, 0.1, 0.2], [1.0, 2.0, 3.0], None) == pytest.approx([1.0, 2.1, 3.2])


def test_the_servers_queue_is_first_come_first_served() -> None:
    assert replay([0.0, 0.1, 5.0], [1.0, 2.0, 1.0], 1) == pytest.approx([1.0, 3.0, 6.0])
    # Kiefer and Wolfowitz, by simulating each server by itself
    draw = random.Random(7)
    arrivals = sorted(draw.uniform(0, 100) for _ in range(300))
    times = [draw.expovariate(1.2) for _ in arrivals]
    free = [0.0] * 3
    expected = []
    for arrived, service_s in zip(arrivals, times, strict=True):
        start = max(arrived, heapq.heappop(free))
        heapq.heappush(free, start + service_s)
        expected.append(start + service_s)
    assert replay(arrivals, times, 3) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "mean", "p90"),
    [
        ("constant:0.005", 0.005, 0.005),
        ("lognormal:0.02:0.5", 0.02, 0.02 * math.exp(1.2816 * math.sqrt(math.log(1.25)) - math.log(1.25) / 2)),
        ("bimodal:0.005:0.05:0.2", 0.014, 0.05),
    ],
)
def test_the_servers_times_are_the_ones_that_it_states(text: str, mean: float, p90: float) -> None:
    drawn = list(islice(service_times(text), 20_000))
    assert fmean(drawn) == pytest.approx(mean, rel=0.02)
    assert np.quantile(drawn, 0.9) == pytest.approx(p90, rel=0.02)
    assert drawn == list(islice(service_times(text), 20_000))


def test_one_request_alone_stalls() -> None:
    assert list(islice(service_times("stall:0.01:2"), 4)) == [0.01, 0.01, 0.01 + STALL_S, 0.01]


def test_the_server_keeps_to_its_rule_and_writes_all_of_it_down(measure: Callable[..., Measured]) -> None:
    measured = measure("lognormal:0.01:0.5", 2, "-u", "4", "--requests", "100")
    everything = read_truths(Path(measured.run.plan.images).parent / "truth.jsonl")
    assert [truth.number for truth in everything] == list(range(WARMING_UP + 100))
    due = replay([truth.arrived for truth in everything], service_times("lognormal:0.01:0.5"), 2)
    assert [truth.due for truth in everything] == due
    assert all(truth.arrived <= truth.due <= truth.answered for truth in everything)


# ---- the stream beside it ----

MODES = {
    "closed": ("lognormal:0.03:0.5", ("-u", "3")),
    "open": ("bimodal:0.02:0.1:0.2", ("--rate", "60")),
    "two processes": ("constant:0.03", ("--rate", "60", "--processes", "2")),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_figure_is_that_of_the_servers_truth_and_the_way_to_it(
    measure: Callable[..., Measured], mode: str
) -> None:
    times, options = MODES[mode]
    measured = measure(times, None, *options, "--requests", "200", "--max-send-lag", "60000")
    assert measured.run.verdict == "valid", measured.said
    if mode == "closed":
        assert most_at_once(measured.records) == 3, "all users work"
    # every request of the plan arrived once, and was answered once
    assert [record.index for record in measured.records] == [slot.index for slot in measured.slots]
    assert len({truth.number for truth in measured.truths}) == len(measured.truths) == 200
    # on the one clock of the machine: sent, arrived, answered, done
    for record, truth in zip(measured.records, measured.truths, strict=True):
        assert measured.started + record.sent_s <= truth.arrived + 2 * MICROSECOND_S
        assert truth.answered <= measured.started + (record.first_byte_s or 0.0) + 2 * MICROSECOND_S
        assert record.due_s <= record.sent_s <= (record.first_byte_s or 0.0) <= record.done_s
    # nothing is measured shorter than it was, and what is added is less than what is measured
    on_the_way_s = measured.on_the_way_s()
    assert min(on_the_way_s) >= -2 * MICROSECOND_S
    assert median(on_the_way_s) < median(truth.server_s for truth in measured.truths)
    # what is reported is what the records say, by somebody else's percentiles
    figures = {
        "latency_s": [record.done_s - record.due_s for record in measured.records],
        "service_s": [record.done_s - record.sent_s for record in measured.records],
    }
    for name, samples in figures.items():
        told = getattr(measured.total, name)
        assert told.mean == pytest.approx(np.mean(samples), abs=MICROSECOND_S)
        assert told.p50 == pytest.approx(np.quantile(samples, 0.5, method="inverted_cdf"), abs=MICROSECOND_S)
        assert told.p90 == pytest.approx(np.quantile(samples, 0.9, method="inverted_cdf"), abs=MICROSECOND_S)
        assert told.p99 is None, "200 requests are too few for a p99"
    service = measured.total.service_s
    assert service is not None
    for fraction, reported in ((0.5, service.p50), (0.9, service.p90)):
        server_s = [truth.server_s for truth in measured.truths]
        assert reported is not None
        assert reported >= np.quantile(server_s, fraction, method="inverted_cdf") - 2 * MICROSECOND_S


def test_two_processes_send_what_one_sends_each_its_share(measure: Callable[..., Measured], tmp_path: Path) -> None:
    options = ("--rate", "100", "--requests", "120", "--max-send-lag", "60000")
    one = measure("constant:0.002", None, *options)
    (tmp_path / "out").rename(tmp_path / "first")
    two = measure("constant:0.002", None, *options, "--processes", "2")
    assert one.slots == two.slots
    assert one.run.plan.sha256 == two.run.plan.sha256
    for of, measured in ((1, one), (2, two)):
        assert measured.run.plan.shares == of
        sent = [(record.index, record.model, record.image, record.share) for record in measured.records]
        assert sent == [(slot.index, slot.model, slot.images[0], slot.index % of) for slot in measured.slots]


def test_a_schedule_is_kept_to(measure: Callable[..., Measured]) -> None:
    measured = measure("constant:0.002", None, "--rate", "100", "--duration", "4", "--max-send-lag", "60000")
    due = [slot.due_s or 0.0 for slot in measured.slots]
    assert [record.due_s for record in measured.records] == pytest.approx(due, abs=MICROSECOND_S)
    assert all(record.sent_s >= record.due_s for record in measured.records)
    # each is sent before the next one in the plan, however late
    assert all(before.sent_s <= after.sent_s for before, after in pairwise(measured.records))
    # the gaps are those of a Poisson process, and it stops when it should: the next one would have been due past 4 s
    gaps = np.diff([0.0, *(record.due_s for record in measured.records)])
    assert kstest(gaps, "expon", args=(0, 1 / 100)).pvalue > 0.05
    assert 3.9 < max(due) < 4.0
    assert measured.run.phases[0].offered_per_s == pytest.approx(len(due) / max(due))
    last_s = max(record.done_s for record in measured.records)
    assert measured.total.wall_s == pytest.approx(last_s, abs=MICROSECOND_S)


def test_a_rate_that_cannot_be_held_is_invalid_and_told(measure: Callable[..., Measured]) -> None:
    measured = measure("constant:0.002", None, "--rate", "500000", "--requests", "1000", "-u", "20")
    assert {"send-lag", "senders-exhausted"} & set(measured.codes)
    phase = measured.run.phases[0]
    arrived = [truth.arrived for truth in measured.truths]
    assert phase.delivered_per_s is not None
    assert phase.offered_per_s is not None
    assert phase.delivered_per_s < phase.offered_per_s / 2
    # what it says to have delivered is what arrived
    assert phase.delivered_per_s == pytest.approx(1000 / (max(arrived) - measured.started), rel=0.2)


STALL = "stall:0.005:100"
STALL_OPTIONS = ("--requests", "800", "--max-send-lag", "60000")
"""At 100 a second a server that takes 5 ms is busy half of the time; the stall is at 1 s."""


def theory(slots: Sequence[Slot]) -> list[float]:
    """Response times of the plan, had every request arrived when it was due."""
    due = [slot.due_s or 0.0 for slot in slots]
    done = replay(due, islice(service_times(STALL), WARMING_UP, None), 1)
    return [end - start for start, end in zip(due, done, strict=True)]


@pytest.mark.parametrize("senders", [100, 3])
def test_a_stall_is_in_the_response_times_of_an_open_run_as_theory_says(
    measure: Callable[..., Measured], senders: int
) -> None:
    measured = measure(STALL, 1, "--rate", "100", *STALL_OPTIONS, "-u", str(senders))
    expected_s = theory(measured.slots)
    told = measured.total.latency_s
    assert told.mean is not None
    assert told.p99 is not None
    # nothing can be faster than the queue that the plan alone makes: delays of this machine only add to it
    assert told.mean >= fmean(expected_s) - MICROSECOND_S
    responses_s = [record.latency_s for record in measured.records]
    for limit_s in (0.2, 0.5, 0.8):
        assert share_above(responses_s, limit_s) >= share_above(expected_s, limit_s) - 3 / 800
    # and the stream adds little to what the server says about the same requests
    server_s = measured.responses_s()
    assert told.p99 - np.quantile(server_s, 0.99, method="inverted_cdf") < STALL_S / 2
    assert median(np.subtract(responses_s, server_s)) < STALL_S / 10


def test_service_times_hide_a_stall_where_senders_are_few(measure: Callable[..., Measured]) -> None:
    measured = measure(STALL, 1, "--rate", "100", *STALL_OPTIONS, "-u", "3")
    stalled = [truth for truth in measured.truths if truth.server_s > STALL_S / 2]
    assert len(stalled) == 3, "all that were in flight"
    services_s = [record.service_s for record in measured.records]
    assert share_above(services_s, STALL_S / 2) < 0.02
    assert share_above([record.latency_s for record in measured.records], STALL_S / 2) > 0.04


def test_a_closed_loop_hides_a_stall(measure: Callable[..., Measured]) -> None:
    measured = measure(STALL, 1, "-u", "3", "--requests", "800")
    assert sum(truth.server_s > STALL_S / 2 for truth in measured.truths) == 3, "one of each user"
    assert share_above([record.latency_s for record in measured.records], STALL_S / 2) < 0.02


def test_the_script_that_judges_strictly_runs() -> None:
    command = [sys.executable, "-m", "tests.loadgen.fidelity", "--rounds", "1", "--requests", "20", "--only", "wrk"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: something was not met
    assert re.search(r"p50 beside wrk's +[+-][0-9.]+ % +5 % +(yes|NO)$", done.stdout, re.MULTILINE), done.stdout


# ---- dlserve's simulated engine as the truth ----

PROFILES: dict[str, dict[str, object]] = {
    "constant": {"forward_s": 0.02},
    "lognormal": {"forward_s": 0.02, "jitter": 0.5, "seed": 3},
    "bimodal": {"forward_s": {"quantiles": [0.01, 0.01, 0.01, 0.01, 0.04, 0.04]}, "seed": 3},
}
REQUESTS = 120
DRAWS_BEFORE = 20
"""At most so many forwards and loads have taken from the sequence before the first request of the plan."""


def drawn_s(profile: Mapping[str, object]) -> list[float]:
    """What the engine sleeps, forward after forward, by the engine itself."""
    engine = SimulatedEngine(Place("cpu", 1))
    engine.start()
    slept: list[float] = []
    engine.sleep = slept.append
    model = engine.prepare(ModelSpec("sim", "simulated", parameters=dict(profile)))
    model.load()
    for _ in range(REQUESTS + DRAWS_BEFORE):
        model.run([b"image"])
    return slept


@pytest.mark.parametrize("shape", PROFILES)
def test_dlserves_simulated_engine_is_measured_as_what_it_is(
    locust: Start, start_server: Callable[..., Server], tmp_path: Path, shape: str
) -> None:
    server = start_server("--workers", "1", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "sim", **PROFILES[shape])
    _, out, err = locust(*QUICK, "-H", server.url, "-u", "1", "--requests", str(REQUESTS)).wait()
    run, records = read_run(tmp_path / "out"), read_records(tmp_path / "out")
    assert run.verdict == "valid", out + err
    assert run.simulated
    assert [record.index for record in records] == list(range(REQUESTS)), "one user: in the order of the plan"
    forwards_s = [(record.stages or {})["forward"] for record in records]
    # the sequence of sleeps is known, and where in it the plan began is plain: no other place fits
    truth = drawn_s(PROFILES[shape])
    candidates = [truth[start : start + REQUESTS] for start in range(DRAWS_BEFORE)]
    fitting = [
        slept
        for slept in candidates
        if all(told >= own - 2 * MICROSECOND_S for told, own in zip(forwards_s, slept, strict=True))
    ]
    assert fitting
    assert all(slept == fitting[0] for slept in fitting)
    # so no latency is below its truth; what the server and the way to it add is less than what is measured
    for record, slept_s in zip(records, fitting[0], strict=True):
        assert record.service_s >= (record.server_s or math.inf) >= slept_s - 2 * MICROSECOND_S
    added_s = [record.service_s - slept_s for record, slept_s in zip(records, fitting[0], strict=True)]
    assert median(added_s) < median(fitting[0])
