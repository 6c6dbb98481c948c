"""Which jobs the receiving thread runs itself, and which of them together."""

from collections.abc import Sequence

import pytest
from dlmodels.engines.base import Place
from dlmodels.spec import ModelSpec
from dlserve.messages import Item, Job
from dlserve.worker.engines import Engines
from dlserve.worker.quick import FORWARD_S, MOST, Quick, is_quick
from dlserve.worker.service import Service
from dlserve.worker.task import Task, make_task

from tests.server.worker.test_agenda import Nobody, Record


def service(number: int, forward_s: float) -> Service:
    """One whose model is there and was that quick, alone; two take twice as long."""
    spec = ModelSpec(f"model{number}", "simulated", classes=10)
    made = Service(number, spec, Engines(Place("cpu", 1)).get("simulated").prepare(spec))
    made.ran(forward_s)
    made.forward_times.learn(1, forward_s)
    return made


def task(
    arrival: int, of: Service, *, kind: str = "bytes", items: int = 1, found: str = "warm", **more: object
) -> Task:
    """A job as it comes."""
    inputs = tuple(Item(kind, 0, str(item)) for item in range(items))  # type: ignore[arg-type]
    asked = {"cache": None, "best": 5, "threshold": 0.0, "sent": 0.0} | more
    made = Job(id=arrival, service=of.number, items=inputs, input=None, **asked)  # type: ignore[arg-type]
    return make_task(made, Nobody(), of, memoryview(b""), 0.0, arrival, found)  # type: ignore[arg-type]


QUICK, TOO_SLOW = service(1, FORWARD_S / 100), service(2, FORWARD_S * 2)


@pytest.mark.parametrize(
    ("one", "quick"),
    [
        pytest.param(task(0, QUICK), True, id="quick"),
        pytest.param(task(0, TOO_SLOW), False, id="its model is not"),
        pytest.param(task(0, QUICK, items=2), False, id="two images"),
        pytest.param(task(0, QUICK, kind="base64"), False, id="to be decoded"),
        pytest.param(task(0, QUICK, found="disk"), False, id="to be loaded"),
        pytest.param(task(0, QUICK, cache="disk"), False, id="a colder start"),
        pytest.param(task(0, Service(3, ModelSpec("new", "simulated"))), False, id="a model that nobody knows yet"),
    ],
)
def test_only_what_is_quicker_run_than_handed_over_is_quick(one: Task, quick: bool) -> None:
    assert is_quick(one) is quick


def run_of(tasks: Sequence[Task], max_batch: int = 64) -> list[object]:
    """The batches that become of jobs which came together, by their arrival."""
    record = Record()
    quick = Quick(record.agenda, record.run, lambda *_: record.ran.append("admitted"), max_batch)
    for one in tasks:
        quick.add(one)
    quick.run()
    return record.ran


@pytest.mark.parametrize(
    ("tasks", "max_batch", "batches"),
    [
        pytest.param([], 64, [], id="none"),
        pytest.param([task(n, QUICK) for n in range(3)], 64, [[0, 1, 2]], id="together"),
        pytest.param([task(n, QUICK) for n in range(MOST + 1)], 64, [[*range(MOST)], [MOST]], id="not too many"),
        pytest.param([task(n, QUICK) for n in range(3)], 2, [[0, 1], [2]], id="no more than --max-batch"),
        pytest.param(
            [task(n, of) for n, of in enumerate((QUICK, service(4, 1e-6), QUICK))], 64, [[0], [1], [2]], id="of a model"
        ),
        pytest.param(
            [task(n, service) for service in (service(5, FORWARD_S / 2.5),) for n in range(3)],
            64,
            [[0, 1], [2]],
            id="no more than are quick together",
        ),
    ],
)
def test_what_came_together_runs_together(tasks: list[Task], max_batch: int, batches: list[list[int]]) -> None:
    assert run_of(tasks, max_batch) == batches


def test_where_the_device_is_taken_they_are_for_its_thread() -> None:
    record, admitted = Record(), list[int]()
    quick = Quick(record.agenda, record.run, lambda one, _: admitted.append(one.arrival), 64)
    assert record.agenda.take_if_idle()
    quick.add(task(0, QUICK))
    quick.add(task(1, QUICK))
    assert not quick.run()
    assert (record.ran, admitted, len(quick)) == ([], [0, 1], 0)


@pytest.mark.parametrize("lone", [True, False])
def test_it_is_told_whether_the_job_was_alone_in_the_server(lone: bool) -> None:
    record = Record()
    quick = Quick(record.agenda, record.run, lambda *_: None, 64)
    quick.add(task(0, QUICK, lone=lone))
    assert quick.run() is lone
