"""torch in this process: how it is set up, and which kind of model is made of what."""

from pathlib import Path

import torch

from dlmodels.engines.base import Memory
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_model import TorchModel
from dlmodels.engines.torch_script import ScriptModel
from dlmodels.engines.torch_zoo import ZooModel
from dlmodels.errors import RepositoryError
from dlmodels.repository import ModelSpec


class TorchRuntime:
    """One device of this process, awake."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        # Full float32 everywhere, never TF32: a result says "float32", and a batch must agree with single images.
        torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]  # added at import
        self._device = TorchDevice(device)
        self._device.wake()

    def check_kind(self, spec: ModelSpec) -> None:
        """Raises RepositoryError unless torch can make a model of what `spec` names."""
        if not spec.weights:
            raise RepositoryError(f"model {spec.name!r} names no weights: add `weights` to its model.toml")
        if bool(spec.architecture) != (Path(spec.weights).suffix == ".safetensors"):
            raise RepositoryError(
                f"model {spec.name!r} has the weights {spec.weights!r} and the architecture {spec.architecture!r}:"
                " torch takes *.safetensors with an architecture of the zoo, or a TorchScript *.pt without one"
            )

    def model(self, spec: ModelSpec) -> TorchModel:
        """The prepared model. Raises LoadError, RepositoryError or UnknownArchitectureError."""
        return ZooModel(spec, self._device) if spec.architecture else ScriptModel(spec, self._device)

    def memory(self) -> Memory:
        """Of the device."""
        return self._device.memory()
