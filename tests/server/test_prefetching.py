"""When an idle worker is hinted to load a hot model, by tables: no server, no clock."""

import pytest
from dlserve.front.balancer import Request, WorkerView
from dlserve.front.prefetching import PREFETCH_SHARE, worth_prefetching

HOT, OTHER = 1, 2
LOAD_S, HOST_LOAD_S = 1.0, 0.1
ENOUGH_S = PREFETCH_SHARE * LOAD_S + 0.01


def request(cache: str | None = None) -> Request:
    return Request(HOT, 1, cache, 0.01, LOAD_S, HOST_LOAD_S)  # type: ignore[arg-type]  # plain text from a table


def holder(work_s: float) -> WorkerView:
    return WorkerView(0, in_flight=3, work_s=work_s, resident={HOT: "warm"}, free_bytes=0)


def idle(index: int = 1, free: int = 1000, **more: set[int]) -> WorkerView:
    return WorkerView(index, free_bytes=free, **more)  # type: ignore[arg-type]  # the table's sets


@pytest.mark.parametrize(
    ("workers", "chosen"),
    [
        pytest.param([holder(ENOUGH_S), idle()], 1, id="its queue costs more than half a load elsewhere"),
        pytest.param([holder(PREFETCH_SHARE * LOAD_S - 0.01), idle()], None, id="less than that is not worth a load"),
        pytest.param(
            [holder(ENOUGH_S), WorkerView(1, in_flight=1, free_bytes=1000)], None, id="who works is left alone"
        ),
        pytest.param([holder(ENOUGH_S), idle(free=99)], None, id="nobody leaves for a guess"),
        pytest.param([holder(ENOUGH_S), idle(free=100)], 1, id="an exact fit"),
        pytest.param([idle(), idle(2)], None, id="nobody has it: whoever asks first loads it"),
        pytest.param([holder(9.0), holder(0.0), idle(2)], None, id="the shortest queue counts"),
        pytest.param([holder(9.0), idle(1, 200), idle(2, 300)], 2, id="the most room"),
        pytest.param([holder(9.0), idle(1, 300), idle(2, 200, staged={HOT})], 2, id="or the quickest load"),
        pytest.param([holder(HOST_LOAD_S), idle(1), idle(2, staged={HOT})], 2, id="which may be worth it alone"),
        pytest.param([holder(9.0), idle(prefetching={HOT}), idle(2)], None, id="one hint at a time"),
        pytest.param([holder(9.0), idle(prefetching={OTHER})], None, id="and one for each worker"),
    ],
)
def test_who_is_hinted(workers: list[WorkerView], chosen: int | None) -> None:
    assert worth_prefetching(request(), 100, workers) == chosen


@pytest.mark.parametrize("cache", ["disk", "host"])
def test_a_cold_start_is_measured_and_never_helped(cache: str) -> None:
    assert worth_prefetching(request(cache), 100, [holder(ENOUGH_S), idle()]) is None
    assert worth_prefetching(request("warm"), 100, [holder(ENOUGH_S), idle()]) == 1
