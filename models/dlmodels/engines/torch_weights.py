"""A network's parameters, pointed into a file's bytes and away again; the network itself stays."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from dlmodels.engines.safetensors_file import TensorFile
from dlmodels.engines.torch_arrival import Arrival
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import stored_dtype
from dlmodels.errors import LoadError


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter or buffer, and which part of which tensor of the file it is."""

    tensor: torch.Tensor
    index: int
    """Of the file's tensors."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    """Of its first element in the file's tensor, in elements."""


class Carrier(ABC):
    """Where one network's weights come from, and whether they are there."""

    bytes: int
    """What they take on the device."""
    way: str
    """How they get there, for people."""
    loaded: bool = False
    has_host_tier: bool = False

    @property
    def staged_bytes(self) -> int:
        """What they take of the host tier while staged."""
        return self.bytes

    @property
    def staged(self) -> bool:
        """Whether they are in the host tier."""
        return False

    @property
    def settled(self) -> bool:
        """Whether a forward need not wait for any."""
        return True

    def stage(self) -> None:
        """Into the host tier. Raises LoadError or OutOfMemoryError."""
        raise NotImplementedError(f"{type(self).__name__} has no host tier")

    def unstage(self) -> None:  # noqa: B027  there is nothing to do where there is no host tier
        """Out of the host tier."""

    @abstractmethod
    def load(self) -> None:
        """Bring them to the device. Raises LoadError or OutOfMemoryError; then nothing is loaded. Harmless when loaded."""

    @abstractmethod
    def unload(self) -> None:
        """Give their memory back. Harmless when not loaded."""

    def through(self, forward: Callable[[], object]) -> object:
        """A forward that waits for what is still on its way."""
        return forward()


class Weights(Carrier):
    """The network stays, and its parameters are pointed to where the weights are."""

    def __init__(
        self,
        device: TorchDevice,
        file: TensorFile,
        slots: Sequence[Slot],
        cast_to: torch.dtype | None,
        groups: Sequence[Sequence[int]] = (),
        gates: Sequence[torch.nn.Module] = (),
    ) -> None:
        self._device = device
        self._name = str(file.path)
        self._source = device.source(file, cast_to, groups or [range(len(file.tensors))])
        self._arrival = Arrival(None if device.is_cpu else device.copier, gates)
        self._targets = []
        for slot in slots:
            place = self._source.places[slot.index]
            dtype = stored_dtype(file.tensors[slot.index].dtype, cast_to)
            if place % dtype.itemsize:
                raise LoadError(f"{file.path}: a tensor is not aligned in the file: save the network again")
            self._targets.append((slot.tensor, place // dtype.itemsize + slot.offset, slot.shape, slot.stride))
        self.bytes, self.way = self._source.bytes, self._source.way
        self.has_host_tier = device.host is not None

    @property
    def staged_bytes(self) -> int:
        """What they take of the host tier while staged."""
        return self._source.staged_bytes

    @property
    def staged(self) -> bool:
        """Whether they are in the host tier."""
        return self._source.staged

    @property
    def settled(self) -> bool:
        """Whether a forward need not wait for any."""
        return not self._arrival.under_way

    def stage(self) -> None:
        """Into the host tier. Raises LoadError or OutOfMemoryError."""
        self._source.stage()

    def unstage(self) -> None:
        """Out of the host tier."""
        self._source.unstage()

    def load(self) -> None:
        """Point every tensor at its content. Raises LoadError or OutOfMemoryError; then nothing is loaded."""
        if self.loaded:
            return
        self._device.check_fits(self._name, self.bytes)
        with torch.no_grad(), self._device.current():
            storage = self._source.load()
            self._arrival.expect(self._source.marks)
            for tensor, offset, shape, stride in self._targets:
                tensor.set_(storage, offset, shape, stride)
        self.loaded = True

    def unload(self) -> None:
        """Point every tensor at nothing; the storage goes with the last one that was in it."""
        if not self.loaded:
            return
        self._arrival.finish()
        nothing = torch.empty(0, dtype=torch.uint8, device=self._device.torch).untyped_storage()
        with torch.no_grad():
            for tensor, *_ in self._targets:
                tensor.set_(nothing, 0, (0,), (1,))
        self.loaded = False

    def through(self, forward: Callable[[], object]) -> object:
        """A forward that waits for what is still on its way."""
        return self._arrival.through(forward)


def materialize(
    module: torch.nn.Module, device: torch.device, dtypes: Mapping[str, torch.dtype]
) -> dict[str, torch.Tensor]:
    """Put an empty tensor on the device in the place of each meta tensor; name -> that tensor. Raises LoadError for one not in `dtypes`."""
    made: dict[str, torch.Tensor] = {}
    instead: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    """By identity: what was there (kept, so that no other gets its identity) and what is there now; some are shared."""
    for prefix, inner in module.named_modules(remove_duplicate=False):
        # torch has no public way to replace them; constants of an exported graph are plain attributes.
        for store in (inner._parameters, inner._buffers, vars(inner)):  # noqa: SLF001
            for key, was in store.items():
                name = f"{prefix}.{key}".lstrip(".")
                if not isinstance(was, torch.Tensor):
                    continue
                if name not in dtypes:
                    raise LoadError(f"the file has no content for {name}: save the network again")
                if id(was) not in instead:
                    tensor = torch.empty(0, dtype=dtypes[name], device=device)
                    if isinstance(was, torch.nn.Parameter):
                        tensor = torch.nn.Parameter(tensor, requires_grad=False)
                    instead[id(was)] = instead[id(tensor)] = (was, tensor)
                store[key] = made[name] = instead[id(was)][1]
    return made
