"""What every torch model does with a batch, wherever its weights came from."""

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Model
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import is_out_of_memory
from dlmodels.errors import ForwardError, OutOfMemoryError
from dlmodels.repository import ModelSpec


class TorchModel(Model):
    """A classifier on one device."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec)
        self._device = device
        # On CPUs this layout is the faster one for nearly every network (SqueezeNet: half the time). The filters of our
        # own files lie in it too; ResNet-18 takes 1.7 times as long where they do not.
        self._layout = torch.channels_last if device.is_cpu else torch.contiguous_format

    @abstractmethod
    def _forward(self, images: torch.Tensor) -> object:
        """The network's output for (n, channels, height, width) on the device. Raises ForwardError if not loaded."""

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Probabilities, float32 (n, classes), on the host."""
        if not isinstance(batch, np.ndarray) or batch.ndim != 4 or batch.dtype != np.float32 or len(batch) == 0:
            raise ForwardError(
                f"model {self.spec.name!r} takes float32 (n, channels, height, width) with n of 1 or more"
            )
        if not batch.flags.writeable:
            batch = batch.copy()  # torch warns of tensors over memory that it may not write
        try:
            with torch.inference_mode(), self._device.current():
                answer = self._probabilities(torch.from_numpy(batch))
        except (RuntimeError, ValueError) as exc:
            if isinstance(exc, RuntimeError) and is_out_of_memory(exc):
                self._device.release_cached()
                raise OutOfMemoryError(
                    f"{self.spec.name!r}: no memory for a batch of {len(batch)} on {self._device.name}: send fewer images"
                ) from exc
            raise ForwardError(
                f"{self.spec.name!r} failed on a batch of shape {batch.shape}: {_first_line(exc)}"
            ) from exc
        if not np.isfinite(answer).all():
            raise ForwardError(f"{self.spec.name!r} answered with numbers that are not finite: check weights and input")
        return answer

    def _probabilities(self, images: torch.Tensor) -> NDArray[np.float32]:
        images = images.to(self._device.torch, memory_format=self._layout, non_blocking=True)
        scores = self._scores(self._forward(images), len(images)).float()
        answer: NDArray[np.float32] = (scores.sigmoid() if self.spec.multi_label else scores.softmax(1)).cpu().numpy()
        return answer

    def _scores(self, output: object, count: int) -> torch.Tensor:
        """The one tensor of class scores, (count, classes), in what a network returned."""
        if not isinstance(output, torch.Tensor):
            output = _main_output(output)
        if not isinstance(output, torch.Tensor):
            raise ForwardError(
                f"{self.spec.name!r} gives no single tensor of class scores, but {type(output).__name__}"
            )
        shape = tuple(output.shape)
        if shape[:1] != (count,) or output[:1].numel() != self.spec.classes:
            raise ForwardError(
                f"{self.spec.name!r} gives scores of shape {shape} for a batch of {count}, where {self.spec.classes}"
                " classes are expected: correct the number of classes (nclasses) or the model"
            )
        return output.reshape(count, self.spec.classes)


def _main_output(output: object) -> object:
    """The classifier's own output beside auxiliary ones: `logits` of a named tuple, else the only tensor there is."""
    logits = getattr(output, "logits", None)
    if logits is not None:
        return logits
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        tensors = [item for item in output if item is not None]
        if len(tensors) == 1:
            return tensors[0]
    return output


def _first_line(exc: Exception) -> str:
    """torch's messages go on with stack traces; TorchScript's begin with them and end with what went wrong."""
    lines = [line.strip() for line in str(exc).strip().splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    return lines[-1] if lines[0].startswith("The following operation failed") else lines[0]
