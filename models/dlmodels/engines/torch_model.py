"""What every torch model does with a batch, wherever its weights came from."""

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Model, Temperature
from dlmodels.engines.graph_model import are_probabilities, trial_pictures
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_graphs import ReplayedForwards
from dlmodels.engines.torch_memory import is_out_of_memory
from dlmodels.engines.torch_precision import precision
from dlmodels.engines.torch_settings import TorchSettings
from dlmodels.engines.torch_weights import Carrier
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec
from dlmodels.settings import parse_settings


class TorchModel(Model):
    """A classifier on one device, whose skeleton lives as long as this object; the weights only while loaded.

    Subclasses make the skeleton and set `_weights`; where the file carries its own graph, they end with `try_out`.
    """

    least_images = 1
    """The smallest batch that the network takes; smaller ones are filled up."""
    _weights: Carrier

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec)
        self._device = device
        self._asked = parse_settings(spec.parameters, TorchSettings, f"model {spec.name!r}")
        self._precision = precision(self._asked.datatype, device.torch, spec.name)
        if device.is_cpu and self._asked.cuda_graphs:
            raise SettingError(f"model {spec.name!r}: cuda_graphs is for GPUs, and this is a CPU: leave it out")
        with_graphs = not device.is_cpu and self._asked.cuda_graphs is not False
        self._graphs = ReplayedForwards(device.recorder) if with_graphs else None
        self._gives_probabilities = False
        # The filters of our own files lie in this layout, and nearly every network is faster in it (SqueezeNet on a CPU
        # takes half the time, ResNet-18 1.7 times as long where only the filters do not).
        self._layout = torch.channels_last

    @property
    def reload_tiers(self) -> tuple[Temperature, ...]:  # type: ignore[override]  # known once the weights are looked at
        """With "host" in it on GPUs, where the engine was given memory for it."""
        return ("host", "disk") if self._weights.has_host_tier else ("disk",)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the mapped file, or of its copy on the device in the type that is computed in."""
        return self._weights.bytes

    @property
    def staged_bytes(self) -> int:
        """Bytes of the host tier's pages that they take."""
        return self._weights.staged_bytes

    @property
    def settings(self) -> Mapping[str, object]:
        """Read back from torch and from the model."""
        return {
            "datatype": self._precision.name,
            "threads": torch.get_num_threads(),
            "layout": str(self._layout).removeprefix("torch."),
            "weights": self._weights.way,
            "compile": self._asked.compile,
            "cuda_graphs": self._graphs is not None and self._graphs.works,
        }

    @property
    def staged(self) -> bool:
        """Whether the host tier holds the weights."""
        return self._weights.staged

    def stage(self) -> None:
        """Read the file into the host tier. Raises LoadError or OutOfMemoryError."""
        self._weights.stage()

    def unstage(self) -> None:
        """Give the host tier's pages back."""
        self._weights.unstage()

    def load(self) -> None:
        """Point every parameter at its content."""
        with self._device.turn:
            self._weights.load()

    def unload(self) -> None:
        """Point every parameter at nothing, and forget what was recorded with their addresses."""
        if self._graphs is not None:
            self._graphs.drop()
        self._weights.unload()

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Probabilities, float32 (n, classes), on the host."""
        if not isinstance(batch, np.ndarray) or batch.ndim != 4 or batch.dtype != np.float32 or len(batch) == 0:
            raise ForwardError(
                f"model {self.spec.name!r} takes float32 (n, channels, height, width) with n of 1 or more"
            )
        if self.most_images is not None and len(batch) > self.most_images:
            raise ForwardError(f"{self.spec.name!r} takes at most {self.most_images} images at once, not {len(batch)}")
        if not self._weights.loaded:
            raise ForwardError(f"{self.spec.name!r} is not loaded: load it before it runs")
        try:
            with self._device.turn, torch.inference_mode(), self._device.current(), self._precision.computing():
                answer = self._answer(batch)
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

    def try_out(self) -> None:
        """Load once and run noise, since nothing else tells what the file is. Raises LoadError or OutOfMemoryError."""
        self.load()
        self._gives_probabilities = True
        try:
            rows = np.concatenate([self.run(noise) for noise in trial_pictures(self.spec)])
        except ForwardError as exc:
            raise LoadError(
                f"{self.spec.folder}/{self.spec.weights} does not work as {self.spec.name!r} is described: {exc}"
            ) from exc
        finally:
            self.unload()
        self._gives_probabilities = are_probabilities(rows, self.spec)

    @abstractmethod
    def _forward(self, images: torch.Tensor) -> object:
        """The network's output for (n, channels, height, width) on the device."""

    def _answer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(batch)
        if count < self.least_images:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self.least_images - count, axis=0)])
        elif not batch.flags.writeable:
            batch = batch.copy()  # torch warns of tensors over memory that it may not write
        images = torch.from_numpy(batch).to(
            self._device.torch, self._precision.dtype, memory_format=self._layout, non_blocking=True
        )
        if self._graphs is None:
            found = self._compute(images)
        else:
            found = self._graphs.run(self._compute, images, settled=self._weights.settled)
        answer: NDArray[np.float32] = found[:count].cpu().numpy()
        return answer

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities, float32 (n, classes), on the device."""
        output = self._weights.through(lambda: self._forward(images))
        scores = self._scores(output, len(images)).float()
        if self._gives_probabilities:
            return scores
        return scores.sigmoid() if self.spec.multi_label else scores.softmax(1)

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
