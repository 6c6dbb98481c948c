"""Which forwards are recorded and replayed; the recording itself needs a GPU."""

import logging

import pytest
import torch
from dlmodels.engines.torch_graphs import Compute, ReplayedForwards


class FakeRecorder:
    """Remembers what it recorded and how often that was replayed."""

    def __init__(self, fails: bool = False) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []
        self.fails = fails

    def __call__(self, compute: Compute, images: torch.Tensor) -> Compute:
        """Replays compute once more, and notes it."""
        self.recorded.append(len(images))
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay(images: torch.Tensor) -> torch.Tensor:
            self.replayed.append(len(images))
            return compute(images)

        return replay


def images(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32).reshape(count, 1)


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_a_size_is_recorded_once_it_is_met_for_the_third_time_and_then_replayed() -> None:
    recorder = FakeRecorder()
    graphs = ReplayedForwards(recorder)
    for _ in range(5):
        for count in (1, 3):
            assert torch.equal(graphs.run(double, images(count), settled=True), images(count) * 2)
    assert recorder.recorded == [1, 3]
    assert recorder.replayed == [1, 3] * 3


def test_nothing_is_recorded_while_weights_are_on_their_way() -> None:
    recorder = FakeRecorder()
    graphs = ReplayedForwards(recorder, warm_after=0)
    graphs.run(double, images(1), settled=False)
    assert recorder.recorded == []
    graphs.run(double, images(1), settled=True)
    assert recorder.recorded == [1]


def test_what_was_recorded_goes_with_the_weights_and_comes_again() -> None:
    recorder = FakeRecorder()
    graphs = ReplayedForwards(recorder)
    for _ in range(2):
        for _ in range(3):
            graphs.run(double, images(1), settled=True)
        assert list(graphs.shapes) == [(1, 1)]
        graphs.drop()
        assert not graphs.shapes
    assert recorder.recorded == [1, 1]
    assert recorder.replayed == [1, 1]


def test_sizes_are_bounded_and_the_one_used_longest_ago_goes_first() -> None:
    recorder = FakeRecorder()
    graphs = ReplayedForwards(recorder, warm_after=0, most=2)
    for count in (1, 2, 1, 3, 1):
        graphs.run(double, images(count), settled=True)
    assert list(graphs.shapes) == [(3, 1), (1, 1)]
    assert recorder.recorded == [1, 2, 3]


def test_sizes_met_once_in_a_while_among_many_others_are_never_recorded() -> None:
    recorder = FakeRecorder()
    graphs = ReplayedForwards(recorder, most=4)
    for _ in range(5):
        for count in range(1, 9):
            graphs.run(double, images(count), settled=True)
    assert recorder.recorded == []


def test_where_recording_fails_it_is_said_once_and_forwards_run_without(caplog: pytest.LogCaptureFixture) -> None:
    recorder = FakeRecorder(fails=True)
    graphs = ReplayedForwards(recorder, warm_after=0)
    assert graphs.works
    with caplog.at_level(logging.WARNING):
        for count in (1, 1, 2):
            assert torch.equal(graphs.run(double, images(count), settled=True), images(count) * 2)
    assert recorder.recorded == [1]
    assert not graphs.works
    assert [record.message for record in caplog.records] == [
        "no CUDA graph of batches (1, 1), which run without from now on: operation not permitted when stream is capturing"
    ]
