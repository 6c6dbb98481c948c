"""The contract between an engine and whoever runs models: all that the server knows of a framework.

An engine object lives in one process, on one device. A model is *prepared* once (its skeleton is built and its files
are checked), then *loaded* and *unloaded* as the cache decides, and *run* while loaded. A reload may keep the
process, the context, the kernels and the skeleton, but no byte of the weights in a warmer tier than asked.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dlmodels.repository import ModelSpec

Temperature = Literal["warm", "host", "disk"]
"""Where the weights are: in the device's memory, in pinned host memory (GPU only), in a file."""

Batch = NDArray[np.float32] | Sequence[bytes | memoryview]
"""float32 (n, channels, height, width), preprocessed; the raw inputs where the model does not decode."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the device (of the machine, on a CPU)."""

    total_bytes: int
    free_bytes: int


class Model(ABC):
    """One model on one device, without weights until `load`. Used from one thread at a time."""

    decodes: bool = True
    """False: inputs are handed to `run` as the bytes that came, undecoded (the simulated engine's default)."""
    reload_tiers: tuple[Temperature, ...] = ("disk",)
    """The colder tiers that a request may ask to start from. With "host" in it, `stage` and `unstage` work."""
    uses_cores: bool = True
    """On a CPU, `run` computes with the place's threads. False: it waits (the simulated engine), and leaves them to others."""
    most_images: int | None = None
    """The largest batch that the network takes, where its graph fixes one; None: any that memory allows."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @property
    def settings(self) -> Mapping[str, object]:
        """What the framework really uses (precision, threads, layout, ...), read back from it; known once prepared."""
        return {}

    @property
    @abstractmethod
    def weights_bytes(self) -> int:
        """Bytes that the loaded weights occupy on the device; known once prepared."""

    @property
    def staged_bytes(self) -> int:
        """Bytes that the weights take of the host tier while staged: as the file has them, in whole pages."""
        return self.weights_bytes

    @property
    def staged(self) -> bool:
        """Whether the weights are in the host tier: pinned memory of this machine, ready to copy."""
        return False

    def stage(self) -> None:
        """Read the weights from the file into the host tier, where they stay until `unstage`. Harmless when staged.

        Raises LoadError, or OutOfMemoryError where the host tier has no room.
        """
        raise NotImplementedError(f"{type(self).__name__} has no host tier")

    def unstage(self) -> None:  # noqa: B027  there is nothing to do where there is no host tier
        """Give the host tier's memory back; what is on the device stays there. Harmless when not staged."""

    @abstractmethod
    def load(self) -> None:
        """Bring the weights onto the device, from the host tier if they are staged, else from the file.

        Returns when they may be run; what is still on its way then is waited for by the forward that needs it.
        Raises LoadError (file gone or damaged) or OutOfMemoryError.
        """

    @abstractmethod
    def unload(self) -> None:
        """Give the weights' memory on the device back. Harmless when not loaded; what is staged stays staged."""

    @abstractmethod
    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Probabilities, float32 (n, classes), on the host and complete when this returns.

        Raises OutOfMemoryError (the caller may retry with a smaller batch) or ForwardError.
        """

    @property
    def lanes(self) -> Sequence[Callable[[Batch], NDArray[np.float32]]]:
        """Ways to run a batch, as `run` does, beside each other: each for one thread at a time. As many as serve throughput best.

        Known while loaded. One: the model runs one batch at a time.
        """
        return (self.run,)


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an engine that can be told nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine works, and how it gets at its models' files."""

    device: str
    """"cpu" or "cuda:N"."""
    threads: int
    """CPU threads that this process may compute with."""
    host_bytes: int = 0
    """Of pinned memory for the host tier, allocated once when the engine starts; 0: none."""
    map_files: bool = True
    """False: weights are read, never mapped, so that no process keeps a file in the page cache that is to be dropped."""


class Engine(ABC):
    """One framework on one device of this process."""

    name: ClassVar[str]
    package: ClassVar[str] = ""
    """The distribution that carries the framework; "" where none is needed."""
    formats: ClassVar[tuple[str, ...]] = ()
    """What it reads, for people: "ONNX (.onnx)"."""
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """Kinds of devices that it computes on: "cpu", "cuda"."""
    settings_type: ClassVar[type[msgspec.Struct]] = NoSettings
    """What `parameters` of a model may hold; each is honoured, or refused with SettingError when a model is prepared."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def start(self) -> None:
        """Import the framework and wake the device. Raises EngineUnavailableError saying what is missing."""

    @abstractmethod
    def prepare(self, spec: ModelSpec) -> Model:
        """Check the model's files (size and sha256) and build its skeleton, without weights.

        Raises RepositoryError, UnknownArchitectureError, LoadError or SettingError.
        """

    @abstractmethod
    def memory(self) -> Memory:
        """The device's memory now."""

    @classmethod
    def missing(cls, device: str) -> str:
        """Why the engine cannot work on this machine's `device` ("cpu", "cuda:N"), and the cure; "" if it can.

        Imports nothing: what only an import can find out, `start` says.
        """
        if device.partition(":")[0] not in cls.devices:
            return f"{cls.name} computes on {' and '.join(cls.devices)} only, and this worker has {device}"
        if cls.package and not cls.version():
            return f"the package {cls.package} is not installed: run `make install`, or pip install {cls.package}"
        return ""

    @classmethod
    def version(cls) -> str:
        """The framework's version, without importing it; "" where it is not installed or none is needed."""
        if not cls.package:
            return ""
        try:
            return metadata.version(cls.package)
        except metadata.PackageNotFoundError:
            return ""
