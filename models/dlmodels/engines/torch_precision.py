"""What a model is computed in: which of torch's types and switches that means, and whether the device has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dlmodels.errors import SettingError


@dataclass(frozen=True, slots=True)
class Precision:
    """Of one model."""

    name: str
    """As TorchSettings has it."""
    dtype: torch.dtype
    """Of the images and of float weights on the device."""

    @property
    def cast_to(self) -> torch.dtype | None:
        """What float32 weights of a file become; None: they stay."""
        return None if self.dtype == torch.float32 else self.dtype

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Switch TF32 on for what runs inside, where that is what was asked for: the switch is the process's."""
        if self.name != "tf32":
            yield
            return
        _switch(tf32=True)
        try:
            yield
        finally:
            _switch(tf32=False)


def full_float32() -> None:
    """From now on float32 is float32, never TF32: a result says "fp32", and a batch must agree with single images."""
    _switch(tf32=False)


def precision(datatype: str, device: torch.device, model: str) -> Precision:
    """Raises SettingError where the device does not compute in that type."""
    types = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if device.type == "cuda":
        lacking = _lacking_gpu(datatype, torch.cuda.get_device_capability(device))
    else:
        lacking = _lacking_cpu(datatype, has_bf16=_cpu_has_bf16())
    if lacking:
        raise SettingError(f"model {model!r}: datatype {datatype} {lacking}")
    return Precision(datatype, types[datatype])


def _switch(*, tf32: bool) -> None:
    """By torch's older names: where the newer ones were used, torch.export raises that the two were mixed."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def _cpu_has_bf16() -> bool:
    """Whether oneDNN has kernels that compute in bfloat16 on this CPU, rather than convert there and back."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # noqa: SLF001  nothing public tells


def _lacking_cpu(datatype: str, *, has_bf16: bool) -> str:
    if datatype in ("tf32", "fp16"):
        return "is for GPUs: use fp32, or bf16 where the CPU has it"
    if datatype == "bf16" and not has_bf16:
        return "needs a CPU with AVX512_BF16 or AMX, which this one has not: use fp32"
    return ""


def _lacking_gpu(datatype: str, capability: tuple[int, int]) -> str:
    if datatype in ("tf32", "bf16") and capability < (8, 0):
        said = ".".join(map(str, capability))
        return f"needs an NVIDIA GPU of compute capability 8.0 (Ampere) or later, this one has {said}: use fp16 or fp32"
    return ""
