"""A TorchScript file: it carries its own graph. Nothing is ever unpickled by Python.

torch.jit.load copies every weight, and reads the graph anew: for VGG16 0.3 s. So the module is kept, and its parameters are
pointed into the file, where their records lie uncompressed. Which record is whose is only said in a pickle; it is found out
by checksum from the module that torch.jit.load makes when the model is prepared.
"""

import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from dlmodels.engines.file_stamp import check_stamp
from dlmodels.engines.safetensors_file import TensorFile, TensorPlace
from dlmodels.engines.torch_archive import Archive, read_archive
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import DTYPES, is_out_of_memory, stored_dtype
from dlmodels.engines.torch_model import TorchModel
from dlmodels.engines.torch_weights import Carrier, Slot, Weights
from dlmodels.errors import LoadError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec

_DATA = "data/"
_CONSTANTS = "constants/"
_CODE = "code/"
_TOUCHES_FILES = re.compile(rb"\b(save|from_file|read_file|write_file)\b")
"""The operators of torch and torchvision that do, wherever on the disk they are told to."""
_MOST_CONSTANT_BYTES = 64 << 10
"""Of tensors that are part of the code and stay with it; more than that is weights (a frozen module's)."""


class ScriptModel(TorchModel):
    """A `.pt` file as DeepDetect uses it."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec, device)
        if self._asked.compile:
            raise SettingError(f"model {spec.name!r}: TorchScript cannot be compiled: leave `compile` out, or use .pt2")
        archive = check_archive(Path(spec.folder) / spec.weights)
        anew = ReadAnew(archive, device, spec.name)
        anew.load()
        tensors = list(_tensors(anew.module))
        records = _records_of(tensors, archive)
        self._kept: torch.jit.ScriptModule | None = None
        self._anew = anew
        if records is not None:
            self._kept = anew.module
            self._weights = self._pointed(archive, records, tensors)
        elif self._precision.cast_to is not None:
            raise SettingError(
                f"model {spec.name!r}: datatype {self._precision.name} cannot be had, as the weights are constants of the"
                " code (a frozen module, say): save it unfrozen, or use fp32"
            )
        else:
            anew.bytes = sum(record.bytes for record in archive.records.values())
            self._weights = anew
        anew.unload()
        self.try_out()

    def _forward(self, images: torch.Tensor) -> object:
        module = self._anew.module if self._kept is None else self._kept
        # Optimizing the graph costs the first runs after each load a third more, and on a CPU it gains nothing.
        with torch.jit.optimized_execution(not self._device.is_cpu):  # type: ignore[attr-defined]  # not in __all__
            return module(images)

    def _pointed(self, archive: Archive, records: Mapping[int, str], tensors: Sequence[torch.Tensor]) -> Weights:
        """The module's tensors emptied, and where their content is from now on."""
        cast_to = self._precision.cast_to
        index = {name: position for position, name in enumerate(dict.fromkeys(records.values()))}
        places: dict[str, TensorPlace] = {}
        slots = []
        for tensor in tensors:
            name = records[tensor.untyped_storage().data_ptr()]
            record = archive.records[name]
            kind = _NAMES[tensor.dtype]
            places[name] = TensorPlace(name, kind, (), record.begin, record.end)
            slots.append(
                Slot(tensor, index[name], tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))
            )
        for slot in slots:
            kind = places[list(index)[slot.index]].dtype
            slot.tensor.data = torch.empty(0, dtype=stored_dtype(kind, cast_to), device=self._device.torch)
        file = TensorFile(archive.path, archive.stamp, tuple(places[name] for name in index))
        return Weights(self._device, file, slots, cast_to)


class ReadAnew(Carrier):
    """The whole module by torch.jit.load at each load: for files whose weights cannot be pointed into."""

    way = "torch.jit.load"

    def __init__(self, archive: Archive, device: TorchDevice, name: str) -> None:
        self._archive = archive
        self._device = device
        self._name = name
        self._module: torch.jit.ScriptModule | None = None
        self.bytes = archive.stamp.bytes

    @property
    def module(self) -> torch.jit.ScriptModule:
        """While loaded."""
        assert self._module is not None, "the caller looks at `loaded`"
        return self._module

    def load(self) -> None:
        """Read the file."""
        if self._module is not None:
            return
        path = self._archive.path
        check_stamp(path, self._archive.stamp)
        self._device.check_fits(self._name, self.bytes)
        try:
            with warnings.catch_warnings(), self._device.current():
                # torch would rather have people export; DeepDetect's users have these files
                warnings.simplefilter("ignore", FutureWarning)
                module = torch.jit.load(str(path), map_location=self._device.torch)  # type: ignore[no-untyped-call]
        except RuntimeError as exc:
            if is_out_of_memory(exc):
                raise OutOfMemoryError(f"{self._device.name} has no room for {path}: unload another model") from exc
            raise LoadError(
                f"{path} cannot be read as TorchScript: it is damaged, or of a newer torch than {torch.__version__}."
                " Save it again with torch.jit.save"
            ) from exc
        self._module = module.eval()
        self.loaded = True

    def unload(self) -> None:
        """Drop the module."""
        self._module = None
        self.loaded = False


def check_archive(path: Path) -> Archive:
    """The archive of a TorchScript file.

    Raises LoadError unless it is a whole one, by its contents and checksums, whose code leaves files alone.
    """
    archive = read_archive(path, "TorchScript", _CONVERT)
    if "constants.pkl" not in archive.names or not any(name.startswith(_CODE) for name in archive.names):
        raise LoadError(f"{path} is a pickled checkpoint, not TorchScript, and pickles are never loaded: {_CONVERT}")
    for name in sorted(archive.names):
        if name.startswith(_CODE) and name.endswith(".py") and _TOUCHES_FILES.search(archive.read(name)):
            raise LoadError(f"{path} has code that reads or writes files ({name}), which is not run here: {_CONVERT}")
    return archive


def _tensors(module: torch.jit.ScriptModule) -> Iterator[torch.Tensor]:
    for _, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield tensor


def _records_of(tensors: Sequence[torch.Tensor], archive: Archive) -> dict[int, str] | None:
    """Address of each tensor's storage -> the record with that content; None where any weight is not a tensor's own.

    Records of the same size and checksum have the same content, so it does not matter which of them is taken.
    """
    data = {name: record for name, record in archive.records.items() if name.startswith(_DATA)}
    if sum(record.bytes for name, record in archive.records.items() if name.startswith(_CONSTANTS)) > (
        _MOST_CONSTANT_BYTES
    ):
        return None
    free: dict[tuple[int, int], list[str]] = {}
    for name, record in data.items():
        free.setdefault((record.bytes, record.crc32), []).append(name)
    found: dict[int, str] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in found:
            continue
        content = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage).cpu().numpy()
        same = free.get((len(content), zlib.crc32(content.data)))
        if not same or tensor.dtype not in _NAMES or data[same[-1]].begin % tensor.element_size():
            return None
        found[storage.data_ptr()] = same.pop()
    return None if any(free.values()) else found


_NAMES = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})
_CONVERT = (
    "save the network with torch.jit.save(torch.jit.trace(network, example), ...), or its state_dict with"
    " safetensors.torch.save_file"
)
