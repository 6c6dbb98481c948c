"""A TorchScript file: it carries its own graph, and is read anew at every load. Nothing is ever unpickled."""

import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from dlmodels.engines.safetensors_file import stamp
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import is_out_of_memory
from dlmodels.engines.torch_model import TorchModel
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError
from dlmodels.repository import ModelSpec


class ScriptModel(TorchModel):
    """A `.pt` file as DeepDetect uses it."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec, device)
        self._path = Path(spec.folder) / spec.weights
        check_archive(self._path)
        self._stamp = stamp(self._path)
        self._module: torch.jit.ScriptModule | None = None
        self._weights_bytes = self._path.stat().st_size
        self._try()

    @property
    def weights_bytes(self) -> int:
        """Bytes of parameters and buffers."""
        return self._weights_bytes

    def load(self) -> None:
        """Read the file."""
        if self._module is not None:
            return
        if stamp(self._path) != self._stamp:
            raise LoadError(f"{self._path} has changed since it was checked: create its service again or restart")
        self._device.check_fits(self.spec.name, self.weights_bytes)
        try:
            with warnings.catch_warnings(), self._device.current():
                # torch would rather have people export; DeepDetect's users have these files
                warnings.simplefilter("ignore", FutureWarning)
                module = torch.jit.load(str(self._path), map_location=self._device.torch)  # type: ignore[no-untyped-call]
            self._module = module.eval()
        except RuntimeError as exc:
            if is_out_of_memory(exc):
                raise OutOfMemoryError(
                    f"{self._device.name} has no room for {self._path}: unload another model"
                ) from exc
            raise LoadError(
                f"{self._path} cannot be read as TorchScript: it is damaged, or of a newer torch than {torch.__version__}."
                " Save it again with torch.jit.save"
            ) from exc

    def unload(self) -> None:
        """Drop the module."""
        self._module = None

    def _forward(self, images: torch.Tensor) -> object:
        if self._module is None:
            raise ForwardError(f"{self.spec.name!r} is not loaded: load it before it runs")
        # Optimizing the graph costs the first runs after each load a third more, and on a CPU it gains nothing.
        with torch.jit.optimized_execution(not self._device.is_cpu):  # type: ignore[attr-defined]  # not in __all__
            return self._module(images)

    def _try(self) -> None:
        """Load once and run one black image, since nothing else tells what the file is. Raises LoadError."""
        self.load()
        try:
            if self._module is not None:
                tensors = [*self._module.parameters(), *self._module.buffers()]
                self._weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.run(np.zeros((1, *self.spec.input.shape), np.float32))
        except ForwardError as exc:
            raise LoadError(f"{self._path} does not work as {self.spec.name!r} is described: {exc}") from exc
        finally:
            self.unload()


def check_archive(path: Path) -> None:
    """Raises LoadError unless the file is a whole TorchScript archive, by its table of contents and checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except OSError as exc:
        raise LoadError(f"the weights {path} cannot be read ({exc.strerror}): put the file back") from exc
    except zipfile.BadZipFile as exc:
        raise LoadError(f"{path} is no TorchScript file: {_CONVERT}") from exc
    if not any(name.endswith("/constants.pkl") for name in names) or not any("/code/" in name for name in names):
        raise LoadError(f"{path} is a pickled checkpoint, not TorchScript, and pickles are never loaded: {_CONVERT}")
    if damaged is not None:
        raise LoadError(f"{path} is damaged in {damaged}: copy it again, or save the network again")


_CONVERT = (
    "save the network with torch.jit.save(torch.jit.trace(network, example), ...), or its state_dict with"
    " safetensors.torch.save_file"
)
