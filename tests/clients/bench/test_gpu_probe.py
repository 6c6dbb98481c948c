"""dlclient.bench.gpu_probe: what NVML says, and what it does not. No machine here has a GPU: NVML is made up."""

from collections.abc import Callable

import pytest
from dlclient.bench.gpu_probe import GpuProbe, GpuReading
from dlclient.errors import PointError

from tests.clients.fake_nvml import FakeGpu, FakeNvml


def test_a_reading_is_in_fractions_bytes_watts_and_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    busy = FakeGpu(
        used_bytes=iter([3 << 30]), utilization=iter([(75, 20)]), power_mw=iter([250_500]), energy_mj=iter([1_234_500])
    )
    nvml = FakeNvml([FakeGpu(), busy])
    probe = GpuProbe(1, nvml)
    probe.open()
    assert probe.read() == GpuReading(kernel=0.75, memory=0.2, memory_bytes=3 << 30, power_w=250.5, energy_j=1234.5)
    probe.close()
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("nvmlDeviceGetUtilizationRates", lambda one: (one.kernel, one.memory, one.power_w)),
        ("nvmlDeviceGetTotalEnergyConsumption", lambda one: (one.energy_j, None, one.power_w)),
    ],
)
def test_what_a_device_does_not_tell_is_left_open_and_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch, missing: str, told: Callable[[GpuReading], tuple[object, ...]]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    probe = GpuProbe(0, FakeNvml([FakeGpu()], mute=frozenset({missing})))
    probe.open()
    assert told(probe.read()) == (None, None, 100.0)


def test_activity_of_the_multiprocessors_is_between_mark_and_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml([FakeGpu(sm_percent=62.5)])
    probe = GpuProbe(0, nvml)
    probe.open()
    assert probe.sm_activity() is None, "nothing was marked"
    probe.mark()
    assert probe.sm_activity() == 0.625
    assert nvml.samples == 0, "NVML's memory is given back"
    probe.mark()
    probe.close()
    assert (nvml.samples, nvml.open) == (0, 0)


@pytest.mark.parametrize("missing", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleGet", "nvmlGpmMetricsGet"])
def test_a_device_without_these_counters_tells_no_activity(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml([FakeGpu(sm_percent=62.5)], mute=frozenset({missing}))
    probe = GpuProbe(0, nvml)
    probe.open()
    probe.mark()
    assert probe.sm_activity() is None
    assert nvml.samples == 0


def test_the_device_is_the_one_that_cuda_numbers_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    nvml = FakeNvml([FakeGpu(power_mw=iter([1000])), FakeGpu(power_mw=iter([2000]))])
    probe = GpuProbe(0, nvml)
    probe.open()
    assert probe.read().power_w == 2.0
    with pytest.raises(PointError, match="no GPU 1 among the 1") as caught:
        GpuProbe(1, nvml).open()
    assert caught.value.kind == "unsupported"


def test_a_machine_without_a_driver_says_what_to_do() -> None:
    with pytest.raises(PointError, match="install NVIDIA's driver, or measure on cpu") as caught:
        GpuProbe(0, FakeNvml([], mute=frozenset({"nvmlInit"}))).open()
    assert caught.value.kind == "unsupported"
