"""What a call will take where clients ask in a loop: by tables, no server, no clock."""

import pytest
from dlserve.front.balancer import Coming, Request, WorkerView
from dlserve.front.foresight import MOST, Clients, Forecasts, played_forward

from tests.server.test_balancer import learned

ONE, TWO = 1, 2
NOW = 100.0


def _forward_s(images: int) -> float:
    """As `learned` has it."""
    return 0.01 + 0.01 * images


def _asked(service: int = ONE, decode_s: float = 0.001) -> Request:
    return Request(service, 1, None, _forward_s(1), 1.0, now=NOW, decode_s=decode_s, most=4, times=learned())


def _worker(*sizes: int, ran_s: float = 0.0, service: int = ONE, holds: tuple[int, ...] = (ONE,)) -> WorkerView:
    """One whose batches have so many images; the first has run for so long."""
    batches = [Coming(service, size, _forward_s(size), True, 4, NOW, 0.0, learned()) for size in sizes]
    resident = dict.fromkeys(holds, "warm")
    return WorkerView(0, sum(sizes), resident=resident, batches=batches, running_since=NOW - ran_s)


@pytest.mark.parametrize(
    ("workers", "clients", "ends_s"),
    [
        pytest.param([_worker(2)], 3, 0.03 + 0.02, id="all others run: nobody comes before it begins"),
        pytest.param([_worker(2)], 4, 0.03 + 0.03, id="who is about to ask joins it"),
        pytest.param([_worker(2)], 9, 0.03 + 0.05, id="no more than a batch takes"),
        pytest.param([_worker(2, 1)], 4, 0.03 + 0.03, id="it joins what waits"),
        pytest.param(
            [_worker(1, 4)], 6, 0.02 + 0.05 + 0.03, id="or the batch after it, as who is answered meanwhile does"
        ),
        pytest.param(
            [_worker(4, ran_s=0.01), _worker(4, ran_s=0.04)],
            9,
            0.04 + 0.04,
            id="of four answered elsewhere three stay there, the last comes here, and so does the next",
        ),
        pytest.param(
            [_worker(4, ran_s=0.04), _worker(4, ran_s=0.01)], 9, 0.01 + 0.02, id="who is answered later does not"
        ),
        pytest.param([_worker(2, ran_s=0.01), _worker(1, ran_s=0.019)], 4, 0.02 + 0.02, id="an idle worker is quicker"),
        pytest.param([_worker(2, ran_s=9.0)], 3, 0.02, id="what should have ended ends now"),
    ],
)
def test_when_a_waiting_call_will_have_run(workers: list[WorkerView], clients: int, ends_s: float) -> None:
    under_way = sum(worker.in_flight for worker in workers)
    assert played_forward(_asked(), 0, workers, clients, under_way) == pytest.approx(ends_s, abs=1.1e-3)


def test_another_model_has_its_turn_before() -> None:
    worker = _worker(2, 1, service=TWO)
    assert played_forward(_asked(), 0, [worker], 4, 3) == pytest.approx(0.03 + 0.02 + 0.02)


def test_a_load_that_is_ahead_takes_its_time() -> None:
    worker = _worker(2, 1, service=TWO)
    worker.batches[1].seconds += 0.5
    assert played_forward(_asked(), 0, [worker], 4, 3) == pytest.approx(0.03 + 0.52 + 0.02)


def test_its_own_load_takes_its_time_too() -> None:
    assert played_forward(_asked(), 0, [_worker(2, holds=())], 3, 2) == pytest.approx(0.03 + 1.0 + 0.02)


@pytest.mark.parametrize(
    ("worker", "clients", "under_way"),
    [
        pytest.param(_worker(2), MOST + 1, 2, id="too many clients to play"),
        pytest.param(_worker(4, MOST), 3, 2, id="too many images"),
        pytest.param(_worker(2), 2, 2, id="more calls than clients"),
    ],
)
def test_where_it_cannot_be_said(worker: WorkerView, clients: int, under_way: int) -> None:
    assert played_forward(_asked(), 0, [worker], clients, under_way) is None


def test_there_are_as_many_clients_as_had_calls_at_once_lately() -> None:
    clients = Clients()
    assert [clients.seen(calls, now) for calls, now in ((3, 0.0), (8, 0.5), (7, 1.4))] == [3, 8, 8]
    assert clients.seen(5, 2.6) == 7, "what was seen in the second before is not forgotten at once"
    assert clients.seen(5, 9.0) == 5


def test_the_forecast_that_came_true_more_often_is_gone_by() -> None:
    forecasts = Forecasts()
    assert forecasts.better(1.0, 2.0) == 1.0
    forecasts.learn(1.0, 2.0, 2.2)
    assert forecasts.better(1.0, 2.0) == 2.0
    for _ in range(20):
        forecasts.learn(1.0, 2.0, 1.0)
    assert forecasts.better(1.0, 2.0) == 1.0
