"""Copies to a device that run beside its computing, and how the two are kept in order: the one seam to CUDA's streams."""

from abc import ABC, abstractmethod

import torch

from dlmodels.engines.torch_memory import Mark


class Copier(ABC):
    """Does copies in the order given. What computes on the device waits for none of them unless told to `hold`."""

    @abstractmethod
    def begin(self) -> None:
        """What is copied from now on may overwrite what the device computes with until now."""

    @abstractmethod
    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Start a copy from this machine's memory, which must not change before a later mark is reached.

        Where the types differ the values are converted, on the device. Both are contiguous.
        """

    @abstractmethod
    def mark(self) -> Mark:
        """The point after all copies that were started so far."""

    @abstractmethod
    def hold(self, mark: Mark) -> None:
        """What is computed on the device from now on waits for the mark; the caller does not."""

    @abstractmethod
    def finish(self, mark: Mark) -> None:
        """Wait for the mark."""

    @abstractmethod
    def reached(self, mark: Mark) -> bool:
        """Whether the mark lies behind."""


class CudaCopier(Copier):
    """A stream of one NVIDIA GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """The stream waits for what the current one was given."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Asynchronous where `source` is page-locked."""
        with torch.cuda.stream(self._stream):
            if target.dtype == source.dtype:
                target.copy_(source, non_blocking=True)
            else:  # torch would convert on the CPU; what lands here is this stream's own memory and goes with it
                target.copy_(source.to(self._device, non_blocking=True))

    def mark(self) -> Mark:
        """An event."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def hold(self, mark: Mark) -> None:
        """The current stream waits for the event."""
        torch.cuda.current_stream(self._device).wait_event(_event(mark))

    def finish(self, mark: Mark) -> None:
        """This thread waits for the event."""
        _event(mark).synchronize()

    def reached(self, mark: Mark) -> bool:
        """Whether the event has happened."""
        return bool(_event(mark).query())  # type: ignore[no-untyped-call]


def _event(mark: Mark) -> torch.cuda.Event:
    assert isinstance(mark, torch.cuda.Event)
    return mark
