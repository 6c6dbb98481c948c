"""The simulation against queueing theory, and against what the server promises: the same input, the same answers."""

import heapq
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from dlmodels.repository import write_model
from dlmodels.spec import ModelSpec
from dlserve.config import POLICIES
from dlserve.errors import StartError
from dlserve.simulation.account import Account, Arrival, Task
from dlserve.simulation.run import Server, read_server, simulate

ROOM = 1 << 40
MIX_S = {"tiny": 0.01, "small": 0.05, "middling": 0.2, "large": 0.4}


def model(name: str, **parameters: object) -> ModelSpec:
    """A simulated model."""
    return ModelSpec(name, "simulated", classes=2, parameters=parameters)


def server(specs: Sequence[ModelSpec], workers: int, **settings: object) -> Server:
    """One whose queues are never full, and that runs one request at a time, unless the settings say otherwise."""
    made: dict[str, object] = {"balance": "predicted", "budget_bytes": ROOM, "max_batch": 1, "queue": 1 << 30}
    return Server(specs=specs, workers=workers, **(made | settings))  # type: ignore[arg-type]


def poisson(count: int, rate: float, services: Sequence[str], seed: int) -> list[Arrival]:
    """Arrivals of services that are equally likely."""
    draws, due, arrivals = random.Random(seed), 0.0, []
    for _ in range(count):
        due += draws.expovariate(rate)
        arrivals.append(Arrival(due, draws.choice(services)))
    return arrivals


def mean_wait_s(account: Account) -> float:
    """Of answers, from due to the forward."""
    waits = [answer.latency_s - answer.forward_s for answer in account.answers if answer is not None]
    assert len(waits) == len(account.answers)
    return math.fsum(waits) / len(waits)


def shared_queue_wait_s(arrivals: Sequence[Arrival], servers: int, forward_s: dict[str, float]) -> float:
    """Mean wait of one queue in front of all servers, first come first served: what no dispatcher can beat without knowing more."""
    free, waited = [0.0] * servers, 0.0
    for arrival in arrivals:
        begins = max(heapq.heappop(free), arrival.due_s)
        waited += begins - arrival.due_s
        heapq.heappush(free, begins + forward_s[arrival.service])
    return waited / len(arrivals)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_worker_with_a_constant_forward_waits_as_md1_does(load: float) -> None:
    arrivals = poisson(20_000, load / 0.1, ["a"], 1)
    expected_s = load * 0.1 / (2 * (1 - load))  # Pollaczek and Khinchine
    assert mean_wait_s(simulate(server([model("a", forward_s=0.1)], 1), arrivals)) == pytest.approx(
        expected_s, rel=0.05
    )


def test_a_worker_with_an_exponential_forward_waits_as_mm1_does() -> None:
    load, steps = 0.5, 1000
    quantiles = [-0.1 * math.log(1 - step / steps) for step in range(steps)]
    spec = model("a", forward_s={"quantiles": [*quantiles, quantiles[-1] + 0.1]})
    arrivals = poisson(25_000, load / 0.1, ["a"], 2)
    assert mean_wait_s(simulate(server([spec], 1), arrivals)) == pytest.approx(load * 0.1 / (1 - load), rel=0.05)


@pytest.mark.parametrize("workers", [8, 64])
def test_with_all_resident_and_times_known_predicted_waits_as_a_single_shared_queue_does(workers: int) -> None:
    specs = [model(name, forward_s=forward_s) for name, forward_s in MIX_S.items()]
    mean_s = sum(MIX_S.values()) / len(MIX_S)
    arrivals = poisson(5_000, 0.8 * workers / mean_s, list(MIX_S), 3)
    shared_s = shared_queue_wait_s(arrivals, workers, MIX_S)
    # But for what it thinks that waking a worker takes (policies.WAKE_S).
    assert mean_wait_s(simulate(server(specs, workers), arrivals)) == pytest.approx(shared_s, rel=0.01)
    assert mean_wait_s(simulate(server(specs, workers, balance="least-loaded"), arrivals)) > 1.3 * shared_s


def test_a_thousand_workers_are_simulated_too() -> None:
    arrivals = poisson(1_000, 0.5 * 1024 / 0.1, ["a"], 4)
    account = simulate(server([model("a", forward_s=0.1)], 1024, balance="random"), arrivals)
    assert len({answer.worker for answer in account.answers if answer is not None}) > 500


@pytest.mark.parametrize("balance", POLICIES)
def test_the_same_task_has_the_same_account(balance: str) -> None:
    specs = [model(name, forward_s=0.02, load_s=0.3, bytes=100, jitter=0.3) for name in "abcdef"]
    few = server(specs, 4, balance=balance, budget_bytes=200, max_batch=8, seed=5)
    arrivals = poisson(500, 60.0, "abcdef", 5)
    account = simulate(few, arrivals)
    assert account == simulate(few, arrivals)
    assert all(answer is not None for answer in account.answers)
    assert account.loads > 0
    assert account.loads >= account.evictions > 0


def test_a_cold_model_costs_its_load_once_and_the_answer_says_what_was_found() -> None:
    specs = [model("a", forward_s=0.01, load_s=0.5, bytes=100), model("b", forward_s=0.01, load_s=0.5, bytes=100)]
    one = server(specs, 1, budget_bytes=100)
    arrivals = [Arrival(9.0, "a"), Arrival(9.1, "a"), Arrival(9.6, "a")]
    account = simulate(one, arrivals)  # the warm-up has left b there, for as long as its load took at least
    assert [(round(a.latency_s, 6), round(a.load_s, 6), a.cache) for a in account.answers if a] == [
        (0.51, 0.5, "disk"),
        (0.42, 0.0, "disk"),  # came while it was loaded for the first one
        (0.01, 0.0, "warm"),
    ]
    assert (account.loads, account.evictions, round(account.busy_s[0], 6)) == (1, 1, 0.53)


def test_calls_that_wait_form_batches_and_a_full_queue_turns_calls_away() -> None:
    alone = server([model("a", forward_s=1.0)], 1, max_batch=8, queue=4)
    account = simulate(alone, [Arrival(0.01 * number, "a") for number in range(6)])
    assert [answer and answer.batch_size for answer in account.answers] == [1, 3, 3, 3, None, None]


def test_an_overhead_is_half_before_and_half_after_the_worker() -> None:
    account = simulate(server([model("a", forward_s=1.0)], 1, overhead_s=0.25), [Arrival(0.0, "a"), Arrival(0.5, "a")])
    assert [round(answer.latency_s, 6) for answer in account.answers if answer] == [1.25, 1.75]


def test_an_idle_worker_with_room_loads_a_model_ahead_whose_calls_queue_up() -> None:
    specs = [model("a", forward_s=1.0, load_s=0.5, bytes=100)]
    arrivals = [Arrival(0.01 * number, "a") for number in range(4)]
    ahead, none = (simulate(server(specs, 2, prefetch=on), arrivals, warm_up=()) for on in (True, False))
    assert ahead.loads >= none.loads
    assert {answer.worker for answer in ahead.answers if answer} == {0, 1}


@pytest.mark.parametrize(
    ("specs", "arrivals", "said"),
    [
        ([model("a", bytes=ROOM + 1)], [Arrival(0.0, "a")], "raise --cache-mb"),
        ([model("a")], [Arrival(0.0, "b")], "no model b"),
        ([model("a", forward_s=[])], [], "empty list"),
    ],
)
def test_what_cannot_be_simulated_is_said(specs: list[ModelSpec], arrivals: list[Arrival], said: str) -> None:
    with pytest.raises(StartError, match=said):
        simulate(server(specs, 1), arrivals)


def run(task: object) -> subprocess.CompletedProcess[bytes]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "dlserve.simulation"], input=msgspec.json.encode(task), capture_output=True, timeout=60, check=False
    )  # fmt: skip


def test_the_command_takes_the_servers_own_options_and_folder_of_models(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write_model(tmp_path / name, model(name, forward_s=0.1, load_s=1.0, bytes=1 << 20))
    options = (
        "--models-dir",
        str(tmp_path),
        "--workers",
        "2",
        "--cache-mb",
        "1",
        "--balance",
        "round-robin",
        "--max-batch",
        "1",
    )
    task = Task(
        options=options,
        arrivals=tuple(Arrival(2.0 * number, "ab"[number % 2]) for number in range(4)),
        jitter=0.0,
        seed=3,
    )
    done = run(task)
    assert done.returncode == 0, done.stderr
    account = msgspec.json.decode(done.stdout, type=Account)
    assert account == simulate(read_server(task), task.arrivals)
    assert [answer.worker for answer in account.answers if answer] == [0, 1, 0, 1]
    assert {name: round(load_s, 6) for name, load_s in account.expected_load_s.items()} == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"options": [], "arrivals": []}, "--models-dir"),
        ({"options": [], "arrivals": [], "jiter": 1}, "jiter"),
        ({"options": ["--balance", "best"], "arrivals": []}, "best"),
        ({"options": ["--models-dir", "/nowhere", "--workers", "1", "--cache-mb", "1"], "arrivals": []}, "nowhere"),
    ],
)
def test_a_bad_task_ends_with_2_and_a_sentence(task: object, said: str) -> None:
    done = run(task)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_arrivals_are_in_order() -> None:
    due = [arrival.due_s for arrival in poisson(100, 1.0, "ab", 1)]
    assert all(first <= second for first, second in pairwise(due))
