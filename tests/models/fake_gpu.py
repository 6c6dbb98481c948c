"""A device that is this machine's memory, whose copies arrive as late as they may: what runs ahead of them reads NaN."""

from contextlib import AbstractContextManager, nullcontext

import torch
from dlmodels.engines.arena import Arena
from dlmodels.engines.base import Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.engines.torch_copier import Copier
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import Mark
from dlmodels.engines.torch_upload import HostTier, Staging

PAGE = 4096
FAILURE = "the copy failed"


class LateCopier(Copier):
    """Does a copy only once something holds or waits for a mark after it. Until then its target is all NaN."""

    def __init__(self) -> None:
        self._queue: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.done = 0
        self.log: list[str] = []
        self.fails_at: int | None = None
        """Number of the copy that fails when it is asked for."""
        self.failure = RuntimeError(FAILURE)

    @property
    def asked(self) -> int:
        """Copies asked for so far."""
        return len(self._queue)

    def begin(self) -> None:
        """Noted."""
        self.log.append("begin")

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Queued, and the target spoilt."""
        assert target.is_contiguous()
        assert target.numel() == source.numel()
        if self.fails_at == self.asked:
            raise self.failure
        target.view(torch.uint8).fill_(0xFF)
        self._queue.append((target, source))

    def mark(self) -> Mark:
        """As many copies as were asked for."""
        return self.asked

    def hold(self, mark: Mark) -> None:
        """What is computed from now on finds the copies done."""
        self.log.append(f"hold {mark}")
        self._run_to(mark)

    def finish(self, mark: Mark) -> None:
        """Noted, and done."""
        self.log.append(f"finish {mark}")
        self._run_to(mark)

    def reached(self, mark: Mark) -> bool:
        """Whether they are done."""
        return isinstance(mark, int) and self.done >= mark

    @property
    def largest(self) -> int:
        """Bytes of the largest copy asked for."""
        return max(source.nbytes for _, source in self._queue)

    def promised(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """What the tensors of a network will hold once every copy is done."""
        coming = {target.data_ptr(): source for target, source in self._queue}
        return {name: coming[tensor.data_ptr()] for name, tensor in module.state_dict().items()}

    def _run_to(self, mark: Mark) -> None:
        assert isinstance(mark, int)
        while self.done < mark:
            target, source = self._queue[self.done]
            target.copy_(source)
            self.done += 1


class FakeGpu(TorchDevice):
    """All the code for GPUs, without one."""

    def __init__(self, host_bytes: int = 0, staging_bytes: int = 1 << 16) -> None:
        super().__init__(Place("cpu", 1))
        self.late = LateCopier()
        self._copier = self.late
        self._staging = Staging(self.late, [torch.empty(staging_bytes, dtype=torch.uint8) for _ in range(2)])
        if host_bytes:
            arena = Arena(host_bytes, PAGE)
            self.host = HostTier(arena, torch.empty(arena.total_bytes, dtype=torch.uint8))

    @property
    def is_cpu(self) -> bool:
        """No."""
        return False

    def memory(self) -> Memory:
        """This machine's."""
        return host_memory()

    def current(self) -> AbstractContextManager[object]:
        """There is only one."""
        return nullcontext()

    def release_cached(self) -> None:
        """There is none."""
