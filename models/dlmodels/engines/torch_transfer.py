"""Copies from this machine's memory to an NVIDIA GPU, as seconds: what a model's load from host memory is made of."""

from collections.abc import Callable
from functools import partial
from time import perf_counter

from dlmodels.errors import EngineUnavailableError


def device_copies(device: int, size: int) -> tuple[str, dict[str, Callable[[], float]]]:
    """The GPU's name, and for `pageable` and `pinned` memory a function that copies `size` bytes and returns the seconds.

    The buffers are allocated and the device is awake when this returns. Raises EngineUnavailableError.
    """
    import torch  # noqa: PLC0415  seconds, and only wanted where there is a GPU

    if not torch.cuda.is_available():
        raise EngineUnavailableError(f"torch {torch.__version__} finds no GPU it can use: see `nvidia-smi`")
    try:
        place = torch.device("cuda", device)
        onto = torch.empty(size, dtype=torch.uint8, device=place)
        sources = {
            "pageable": torch.zeros(size, dtype=torch.uint8),
            "pinned": torch.zeros(size, dtype=torch.uint8).pin_memory(),
        }
        for source in sources.values():
            source.random_(256)
            onto.copy_(source)
        torch.cuda.synchronize(place)
    except RuntimeError as exc:  # CUDA's errors and torch's out-of-memory errors are all of these
        raise EngineUnavailableError(
            f"GPU {device} took no copy of {size} bytes ({str(exc).splitlines()[0]}): measure with a smaller --size"
        ) from exc

    def copy(source: torch.Tensor) -> float:
        began = perf_counter()
        onto.copy_(source, non_blocking=True)
        torch.cuda.synchronize(place)
        return perf_counter() - began

    name = torch.cuda.get_device_name(place)
    return name, {kind: partial(copy, source) for kind, source in sources.items()}
