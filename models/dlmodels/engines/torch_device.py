"""The device that torch computes on: its memory, and the buffers on the way to it."""

from contextlib import AbstractContextManager, nullcontext

import torch

from dlmodels.engines.base import Memory
from dlmodels.engines.host import host_memory
from dlmodels.engines.torch_memory import Staging
from dlmodels.errors import EngineUnavailableError, OutOfMemoryError


class TorchDevice:
    """ "cpu" or "cuda:N" of this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.torch = torch.device(name)
        self._staging: Staging | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether weights need not be copied to get there."""
        return self.torch.type == "cpu"

    def wake(self) -> None:
        """Make the GPU's context, which takes seconds once. Raises EngineUnavailableError."""
        if self.is_cpu:
            return
        count = torch.cuda.device_count()
        if self.torch.type != "cuda" or self.torch.index is None or self.torch.index >= count:
            raise EngineUnavailableError(
                f"there is no device {self.name!r} here: torch sees {count} GPUs; use cpu"
                + (f" or cuda:0 to cuda:{count - 1}" if count else "")
            )
        try:
            torch.cuda.set_device(self.torch)
            torch.zeros(1, device=self.torch)
        except RuntimeError as exc:
            raise EngineUnavailableError(f"{self.name} does not work ({exc}): check nvidia-smi and the driver") from exc

    def memory(self) -> Memory:
        """The machine's memory or the GPU's; memory that torch keeps for its next allocation counts as free."""
        if self.is_cpu:
            return host_memory()
        free, total = torch.cuda.mem_get_info(self.torch)
        kept = torch.cuda.memory_reserved(self.torch) - torch.cuda.memory_allocated(self.torch)
        return Memory(total, free + kept)

    def check_fits(self, name: str, size: int) -> None:
        """Raises OutOfMemoryError where a model's weights are larger than what is free."""
        free = self.memory().free_bytes
        if size > free:
            raise OutOfMemoryError(
                f"the {size} bytes of {name!r} do not fit the {free} bytes that are free on {self.name}:"
                " unload another model, or use a machine with more memory"
            )

    def staging(self) -> Staging:
        """The buffers on the way to the GPU, made when a model first needs them."""
        if self._staging is None:
            with self.current():
                self._staging = Staging(self.torch)
        return self._staging

    def current(self) -> AbstractContextManager[object]:
        """Make it the calling thread's current device: CUDA keeps one per thread, and the first GPU is its default."""
        return nullcontext() if self.is_cpu else torch.cuda.device(self.torch)

    def release_cached(self) -> None:
        """Give what torch keeps for its next allocation back to the GPU: a larger block may fit then."""
        if not self.is_cpu:
            torch.cuda.empty_cache()
