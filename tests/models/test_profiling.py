"""dlmodels.engines.profiling: what is made of a profiler's events, and torch's own profiler on a CPU."""

from types import SimpleNamespace

import pytest
import torch
from dlmodels.engines.profiling import TOP, busy_fraction, can_profile, profile, top_operators
from dlmodels.engines.torch_profile import kernel_busy


@pytest.mark.parametrize(
    ("spans", "fraction"),
    [
        ([], 0.0),
        ([(2.0, 4.0)], 0.2),
        ([(0.0, 10.0), (3.0, 4.0)], 1.0),
        ([(6.0, 8.0), (1.0, 3.0), (2.0, 5.0)], 0.6),
        ([(-5.0, 1.0), (9.0, 20.0)], 0.2),
    ],
)
def test_time_that_several_kernels_share_counts_once_and_none_outside(
    spans: list[tuple[float, float]], fraction: float
) -> None:
    assert busy_fraction(spans, 0.0, 10.0) == pytest.approx(fraction)


def test_the_top_operators_are_fractions_of_all_and_not_of_the_top() -> None:
    found = top_operators({f"op{number}": 1.0 for number in range(20)} | {"heavy": 20.0, "free": 0.0})
    assert found[0] == ("heavy", 0.5)
    assert len(found) == TOP
    assert found[1:3] == (("op0", 0.025), ("op1", 0.025))


def test_copies_and_the_watched_run_itself_are_no_kernels() -> None:
    def event(name: str, device: str, start: float, end: float) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, device_type=SimpleNamespace(name=device), time_range=SimpleNamespace(start=start, end=end)
        )

    events = [
        event("dlmodels: all", "CPU", 100.0, 200.0),
        event("dlmodels: all", "CUDA", 100.0, 200.0),
        event("aten::conv2d", "CPU", 100.0, 190.0),
        event("Memcpy HtoD (Pinned -> Device)", "CUDA", 100.0, 150.0),
        event("Memset (Device)", "CUDA", 150.0, 151.0),
        event("sm80_xmma_fprop", "CUDA", 150.0, 170.0),
        event("elementwise", "CUDA", 160.0, 175.0),
    ]
    assert kernel_busy(events) == pytest.approx(0.25)


def test_torch_names_its_operators_and_tells_of_no_kernel_on_a_cpu() -> None:
    weights, images = torch.zeros(64, 3, 3, 3), torch.zeros(2, 3, 64, 64)
    calls = []

    def run() -> None:
        calls.append(torch.conv2d(images, weights))

    found = profile("torch", run, "cpu")
    assert len(calls) == 2, "once to set up, once watched"
    assert found.kernel_busy is None
    # Not always the first: an allocation that is interrupted may take longer than so small a convolution.
    assert any("convolution" in name for name, _ in found.top_operators)
    fractions = [fraction for _, fraction in found.top_operators]
    assert fractions == sorted(fractions, reverse=True)
    assert sum(fractions) == pytest.approx(1.0, abs=0.1)
    assert not any("dlmodels" in name for name, _ in found.top_operators)


def test_an_engine_without_a_profiler_is_known_before() -> None:
    assert can_profile("torch")
    assert not can_profile("openvino")
    with pytest.raises(ValueError, match="no profiler for 'openvino'"):
        profile("openvino", lambda: None, "cpu")
