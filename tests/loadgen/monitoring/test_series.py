"""Which series are kept and what they say, with expositions as dlserve, DeepDetect and Triton write them."""

import pytest
from dlclient.timeline import GpuSample, ServerSample
from dlload.monitoring.series import SLICE_BYTES, Reading, add_lines, difference, slices, wanted_lines

DLSERVE = """\
# HELP dlserve_requests_total Predict calls answered, by HTTP status
# TYPE dlserve_requests_total counter
dlserve_requests_total{{code="200",service="a"}} {good}
dlserve_requests_total{{code="200",service="b"}} 5.0
dlserve_requests_total{{code="503",service="a"}} 0.0
dlserve_batch_size_bucket{{le="1.0",service="a"}} 3.0
dlserve_batch_size_count{{service="a"}} {good}
dlserve_batch_size_sum{{service="a"}} {images}
dlserve_cache_requests_total{{service="a",temperature="warm"}} {good}
dlserve_cache_requests_total{{service="a",temperature="disk"}} 4.0
dlserve_cache_loads_total{{service="a",source="disk",worker="0"}} {loads}
dlserve_worker_in_flight{{worker="0"}} 3.0
dlserve_worker_in_flight{{worker="1"}} 1.0
dlserve_worker_busy_seconds_total{{worker="0"}} {busy}
dlserve_worker_busy_seconds_total{{worker="1"}} 9.0
dlserve_worker_restarts_total{{worker="0"}} 0.0
dlserve_gpu_utilization_ratio{{gpu="0"}} 0.75
dlserve_gpu_memory_used_bytes{{gpu="0"}} 2e+09
dlserve_gpu_power_watts{{gpu="0"}} 250.0
deepdetect_batch_size_avg{{ml_type="classification",service_name="a"}} 1.5
deepdetect_predict_requests_total{{ml_type="classification",service_name="a"}} 99.0
process_cpu_seconds_total {cpu}
process_start_time_seconds 1.7e+09
"""
DEEPDETECT = """\
deepdetect_predict_requests_total{{ml_type="supervised",service_name="a"}} {calls}
deepdetect_predict_requests_failure_total{{ml_type="supervised",service_name="a"}} {failed}
deepdetect_batch_size_avg{{ml_type="supervised",service_name="a"}} 4.0
deepdetect_batch_size_avg{{ml_type="supervised",service_name="idle"}} 0.0
"""
TRITON = """\
nv_inference_request_success{{model="a",version="1"}} {good}
nv_inference_request_failure{{model="a",version="1",reason="OTHER"}} 2
nv_inference_count{{model="a",version="1"}} {good}
nv_inference_exec_count{{model="a",version="1"}} {forwards}
nv_inference_pending_request_count{{model="a",version="1"}} 7
nv_gpu_utilization{{gpu_uuid="GPU-1"}} 0.5
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1"}} 1000000.0
nv_gpu_power_usage{{gpu_uuid="GPU-1"}} 70.5
"""


def reading(at: float, text: str) -> Reading:
    made = Reading(at, 0.01)
    add_lines(made, wanted_lines(text.encode()))
    return made


def test_dlserves_counters_become_those_of_the_interval() -> None:
    before = reading(10.0, DLSERVE.format(good=100.0, images=150.0, loads=2.0, busy=1.0, cpu=5.0))
    after = reading(12.0, DLSERVE.format(good=140.0, images=310.0, loads=5.0, busy=2.5, cpu=5.5))
    assert difference(before, after) == ServerSample(
        scrape_s=0.01,
        in_flight=4.0,
        in_flight_by_worker={"0": 3.0, "1": 1.0},
        batch_size=4.0,
        requests_by_code={"200": 40.0},
        requests_by_temperature={"warm": 40.0},
        loads=3.0,
        busy_by_worker={"0": 0.75, "1": 0.0},
        cpu_cores=0.25,
        gpus={"0": GpuSample(utilization=0.75, memory_bytes=2e9, power_w=250.0)},
        process_started=1.7e9,
        restarts_by_worker={"0": 0.0},
    )


def test_an_idle_interval_has_no_batch_size() -> None:
    text = DLSERVE.format(good=100.0, images=150.0, loads=2.0, busy=1.0, cpu=5.0)
    idle = difference(reading(10.0, text), reading(11.0, text))
    assert idle.batch_size is None
    assert idle.requests_by_code == {}
    assert idle.busy_by_worker == {"0": 0.0, "1": 0.0}


def test_deepdetects_calls_are_good_or_failed() -> None:
    before = reading(0.0, DEEPDETECT.format(calls=10, failed=1))
    after = reading(1.0, DEEPDETECT.format(calls=20, failed=3))
    assert difference(before, after) == ServerSample(
        scrape_s=0.01, batch_size=4.0, requests_by_code={"ok": 8.0, "failed": 2.0}
    )


def test_tritons_batch_size_is_inferences_by_executions() -> None:
    before, after = reading(0.0, TRITON.format(good=0, forwards=0)), reading(1.0, TRITON.format(good=80, forwards=10))
    assert difference(before, after) == ServerSample(
        scrape_s=0.01,
        in_flight=7.0,
        batch_size=8.0,
        requests_by_code={"ok": 80.0},
        gpus={"GPU-1": GpuSample(utilization=0.5, memory_bytes=1e6, power_w=70.5)},
    )


def test_a_counter_that_went_back_counts_from_zero() -> None:
    before = reading(10.0, DLSERVE.format(good=100.0, images=150.0, loads=2.0, busy=9.0, cpu=50.0))
    after = reading(11.0, DLSERVE.format(good=7.0, images=7.0, loads=1.0, busy=0.5, cpu=0.5))
    sample = difference(before, after)
    assert sample.requests_by_code == {"200": 7.0}
    assert sample.cpu_cores == 0.5


def test_only_known_series_are_parsed() -> None:
    lines = wanted_lines(
        b'# TYPE dlserve_requests_total counter\ndlserve_requests_total_more 1\nother{a="b"} 2\nprocess_cpu_seconds_total 3\n'
    )
    assert lines == [b"process_cpu_seconds_total 3"]


def test_an_exposition_is_cut_at_the_ends_of_lines() -> None:
    text = b"".join(b'series{n="%d"} 1.0\n' % number for number in range(20_000))
    pieces = list(slices(text))
    assert b"".join(pieces) == text
    assert all(piece.endswith(b"\n") and len(piece) < SLICE_BYTES + 100 for piece in pieces)
    assert list(slices(b"no end of line")) == [b"no end of line"]


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match="not-a-number"):
        add_lines(Reading(0.0, 0.0), [b"process_cpu_seconds_total not-a-number"])
