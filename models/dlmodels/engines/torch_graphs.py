"""Forwards recorded once and replayed: at small batches a GPU computes faster than Python can tell it what to do."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import torch

log = logging.getLogger(__name__)
Compute = Callable[[torch.Tensor], torch.Tensor]
WARM_AFTER = 2
"""Forwards of one size before it is recorded: libraries choose their kernels in the first ones."""
MOST_GRAPHS = 8
"""Batch sizes; each keeps its own buffers on the device."""


class Recorder(Protocol):
    """The seam to CUDA."""

    def __call__(self, compute: Compute, images: torch.Tensor) -> Compute:
        """What does the same as `compute` for images of that shape. Raises RuntimeError."""


class CudaRecorder:
    """Makes CUDA graphs, all on one stream: cuBLAS keeps a workspace, of 32 MiB on Hopper, for each stream that it meets."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, compute: Compute, images: torch.Tensor) -> Compute:
        """A graph with an input and an output of its own; the output is overwritten by the next replay."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        own = images.clone(memory_format=torch.preserve_format)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            compute(own)  # what is allocated on a first run only must not be a part of the graph
        torch.cuda.current_stream().wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            output = compute(own)

        def replay(images: torch.Tensor) -> torch.Tensor:
            own.copy_(images, non_blocking=True)
            graph.replay()
            return output

        return replay


class ReplayedForwards:
    """One loaded model's recorded forwards, by the shape of the batch. They hold the weights' addresses."""

    def __init__(self, recorder: Recorder, *, warm_after: int = WARM_AFTER, most: int = MOST_GRAPHS) -> None:
        self._record = recorder
        self._warm_after = warm_after
        self._most = most
        self._seen: OrderedDict[torch.Size, int] = OrderedDict()
        self._recorded: OrderedDict[torch.Size, Compute] = OrderedDict()
        self._broken = False

    @property
    def works(self) -> bool:
        """Whether no recording has failed so far; after one that has, nothing is recorded any more."""
        return not self._broken

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Of the batches that are replayed, the one used last at the end."""
        return tuple(self._recorded)

    def run(self, compute: Compute, images: torch.Tensor, *, settled: bool) -> torch.Tensor:
        """The forward's result. `settled`: no weights are on their way any more, so it may be recorded."""
        replay = self._recorded.get(images.shape)
        if replay is None and settled and self._is_warm(images.shape):
            replay = self._try_record(compute, images)
        if replay is None:
            return compute(images)
        self._recorded.move_to_end(images.shape)
        return replay(images)

    def drop(self) -> None:
        """Forget them: the weights' addresses will be others. What was learnt of failing is kept."""
        self._recorded.clear()
        self._seen.clear()

    def _is_warm(self, shape: torch.Size) -> bool:
        if self._broken:
            return False
        count = self._seen.pop(shape, 0)
        self._seen[shape] = count + 1
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return count >= self._warm_after

    def _try_record(self, compute: Compute, images: torch.Tensor) -> Compute | None:
        if len(self._recorded) >= self._most:
            self._recorded.popitem(last=False)
        try:
            replay = self._record(compute, images)
        except RuntimeError as exc:
            self._broken = True
            log.warning("no CUDA graph of batches %s, which run without from now on: %s", tuple(images.shape), exc)
            return None
        self._recorded[images.shape] = replay
        return replay
