"""The GPUs that a process may use, numbered as CUDA does."""

from collections.abc import Iterator
from typing import Any


def visible_gpus(visible: str | None, nvml: Any) -> list[Any]:
    """NVML's handles, in CUDA's order.

    `visible` is CUDA_VISIBLE_DEVICES (None: unset, all). Entries may be numbers or UUID prefixes; as in CUDA, the list
    ends at the first entry that names no GPU. `nvml` is the module pynvml, started. Raises its NVMLError.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return handles if visible is None else list(_named(handles, visible, nvml))


def _named(handles: list[Any], visible: str, nvml: Any) -> Iterator[Any]:
    uuids = {str(nvml.nvmlDeviceGetUUID(handle)): handle for handle in handles}
    for entry in visible.split(","):
        wanted = entry.strip()
        if wanted.isdigit() and int(wanted) < len(handles):
            yield handles[int(wanted)]
        elif wanted.startswith("GPU-") and (found := [h for uuid, h in uuids.items() if uuid.startswith(wanted)]):
            yield found[0]
        else:
            return
