"""Which models a worker takes for quick."""

import math

import pytest
from dlmodels.spec import ModelSpec
from dlserve.worker.service import Service


@pytest.mark.parametrize(
    ("forwards", "known"),
    [
        ([], math.inf),
        ([0.2], 0.2),
        ([1e-5, 0.2], 1e-5),  # interrupted once
        ([1e-5, 0.2, 0.3], 0.2),  # slow
        ([0.2, 0.3, 1e-5], 1e-5),
    ],
)
def test_a_model_is_as_quick_as_the_quicker_of_its_latest_two_forwards(forwards: list[float], known: float) -> None:
    service = Service(0, ModelSpec(name="one", engine="simulated", classes=10))
    for forward_s in forwards:
        service.ran(forward_s)
    assert service.forward_s == known
