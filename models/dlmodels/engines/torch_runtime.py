"""torch in this process: how it is set up, and which kind of model is made of what."""

from pathlib import Path

import torch

from dlmodels.engines.base import Memory, Place
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_export import Pt2Model
from dlmodels.engines.torch_model import TorchModel
from dlmodels.engines.torch_precision import full_float32
from dlmodels.engines.torch_script import ScriptModel
from dlmodels.engines.torch_zoo import ZooModel
from dlmodels.errors import RepositoryError
from dlmodels.repository import ModelSpec


class TorchRuntime:
    """One device of this process, awake."""

    def __init__(self, place: Place) -> None:
        torch.set_num_threads(place.threads)
        full_float32()
        self._device = TorchDevice(place)
        self._device.wake()

    def check_kind(self, spec: ModelSpec) -> None:
        """Raises RepositoryError unless torch can make a model of what `spec` names."""
        if not spec.weights:
            raise RepositoryError(f"model {spec.name!r} names no weights: add `weights` to its model.toml")
        suffix = Path(spec.weights).suffix
        fits = suffix == ".safetensors" if spec.architecture else suffix in (".pt", ".pt2")
        if not fits:
            raise RepositoryError(
                f"model {spec.name!r} has the weights {spec.weights!r} and the architecture {spec.architecture!r}:"
                " torch takes *.safetensors with an architecture of the zoo, or a TorchScript *.pt or a torch.export *.pt2"
                " without one"
            )

    def model(self, spec: ModelSpec) -> TorchModel:
        """The prepared model. Raises LoadError, RepositoryError, SettingError or UnknownArchitectureError."""
        if spec.architecture:
            return ZooModel(spec, self._device)
        kind = Pt2Model if Path(spec.weights).suffix == ".pt2" else ScriptModel
        return kind(spec, self._device)

    def memory(self) -> Memory:
        """Of the device."""
        return self._device.memory()
