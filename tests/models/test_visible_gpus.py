"""dlmodels.visible_gpus: CUDA's numbering. No machine here has a GPU: NVML is made up."""

import pytest
from dlmodels.visible_gpus import visible_gpus

from tests.clients.fake_nvml import FakeGpu, FakeNvml

GPUS = [FakeGpu(uuid="GPU-aa11"), FakeGpu(uuid="GPU-bb22"), FakeGpu(uuid="GPU-cc33")]


@pytest.mark.parametrize(
    ("visible", "order"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("GPU-bb, 0", [1, 0]),
        ("1,7,0", [1]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_are_numbered_as_cuda_does(visible: str | None, order: list[int]) -> None:
    assert [GPUS.index(gpu) for gpu in visible_gpus(visible, FakeNvml(GPUS))] == order
