"""The device that torch computes on: its memory, and what brings weights there."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from dlmodels.engines.arena import Arena
from dlmodels.engines.base import Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.engines.parallel_read import ParallelReader
from dlmodels.engines.safetensors_file import TensorFile
from dlmodels.engines.torch_copier import Copier, CudaCopier
from dlmodels.engines.torch_graphs import CudaRecorder, Recorder
from dlmodels.engines.torch_memory import ConvertedFile, MappedFile, ReadFile, Source, anonymous
from dlmodels.engines.torch_upload import STAGING_BYTES, HostTier, Staging, UploadedFile
from dlmodels.errors import EngineUnavailableError, OutOfMemoryError

READ_THREADS = 4
"""One alone reaches about a third of what NVMe disks and page caches give; more than a few gain nothing."""


class TorchDevice:
    """ "cpu" or "cuda:N" of this process."""

    def __init__(self, place: Place) -> None:
        self.name = place.device
        self.torch = torch.device(place.device)
        self.reader = ParallelReader(READ_THREADS)
        self.host: HostTier | None = None
        self._map_files = place.map_files
        self._host_bytes = place.host_bytes
        self._copier: Copier | None = None
        self._recorder: Recorder | None = None
        self._staging: Staging | None = None
        self._turn = threading.RLock()

    @property
    def is_cpu(self) -> bool:
        """Whether weights need not be copied to get there."""
        return self.torch.type == "cpu"

    @property
    def copier(self) -> Copier:
        """Who copies to the GPU."""
        assert self._copier is not None, "wake() makes it"
        return self._copier

    @property
    def recorder(self) -> Recorder:
        """Who records forwards on the GPU."""
        assert self._recorder is not None, "wake() makes it"
        return self._recorder

    @property
    def turn(self) -> AbstractContextManager[object]:
        """Held by whoever loads or runs on a GPU.

        A model that is being prepared is tried out beside those that run: the staging buffers, and the switch that makes
        float32 TF32, are for one at a time.
        """
        return nullcontext() if self.is_cpu else self._turn

    @property
    def staging(self) -> Staging:
        """The buffers on the way to the GPU."""
        assert self._staging is not None, "wake() makes it"
        return self._staging

    def wake(self) -> None:
        """Make the GPU's context, and pin all that will ever be: seconds, once. Raises EngineUnavailableError."""
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
            buffers = [torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        except RuntimeError as exc:
            raise EngineUnavailableError(f"{self.name} does not work ({exc}): check nvidia-smi and the driver") from exc
        self._copier = CudaCopier(self.torch)
        self._recorder = CudaRecorder()
        self._staging = Staging(self._copier, buffers)
        if self._host_bytes:
            self._pin()

    def source(self, file: TensorFile, cast_to: torch.dtype | None, groups: Sequence[Sequence[int]]) -> Source:
        """The way of that file's tensors to the device. `groups`: indices of its tensors in the order of the forward."""
        if not self.is_cpu:
            return UploadedFile(file, self, cast_to, groups)
        whole = MappedFile(file) if self._map_files else ReadFile(file, self.reader)
        return whole if cast_to is None else ConvertedFile(file, cast_to, whole)

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

    def current(self) -> AbstractContextManager[object]:
        """Make it the calling thread's current device: CUDA keeps one per thread, and the first GPU is its default."""
        return nullcontext() if self.is_cpu else torch.cuda.device(self.torch)

    def release_cached(self) -> None:
        """Give what torch keeps for its next allocation back to the GPU: a larger block may fit then."""
        if not self.is_cpu:
            torch.cuda.empty_cache()

    def _pin(self) -> None:
        """Pin memory of our own: torch's allocator of pinned memory rounds up to a power of two, 20 GiB to 32."""
        arena = Arena(self._host_bytes)
        if not arena.total_bytes:
            raise EngineUnavailableError(
                f"a host tier of {self._host_bytes} bytes has no page of {arena.page_bytes}: give it more, or 0"
            )
        try:
            memory = torch.frombuffer(anonymous(arena.total_bytes, "the host tier"), dtype=torch.uint8)
            code = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), arena.total_bytes, 0)  # type: ignore[no-untyped-call]
            torch.cuda.check_error(int(code))
        except (OutOfMemoryError, RuntimeError) as exc:
            raise EngineUnavailableError(
                f"{arena.total_bytes} bytes of memory cannot be pinned for the host tier ({exc}):"
                " give it less, or raise the limit of locked memory (ulimit -l)"
            ) from exc
        self.host = HostTier(arena, memory)
