"""The contract between an engine and whoever runs models: all that the server knows of a framework.

An engine object lives in one process, on one device. A model is *prepared* once (its skeleton is built and its files
are checked), then *loaded* and *unloaded* as the cache decides, and *run* while loaded. A reload may keep the
process, the context, the kernels and the skeleton, but no byte of the weights in a warmer tier than asked.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

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
    """The colder tiers that a request may ask to start from."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    @property
    @abstractmethod
    def weights_bytes(self) -> int:
        """Bytes that the loaded weights occupy on the device; known once prepared."""

    @abstractmethod
    def load(self) -> None:
        """Bring the weights onto the device; returns when they are there.

        Raises LoadError (file gone or damaged) or OutOfMemoryError.
        """

    @abstractmethod
    def unload(self) -> None:
        """Give the weights' memory back. Harmless when not loaded."""

    @abstractmethod
    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Probabilities, float32 (n, classes), on the host and complete when this returns.

        Raises OutOfMemoryError (the caller may retry with a smaller batch) or ForwardError.
        """


class Engine(ABC):
    """One framework on one device of this process."""

    name: ClassVar[str]

    def __init__(self, device: str, threads: int) -> None:
        """`device`: "cpu" or "cuda:N". `threads`: CPU threads this process may compute with."""
        self.device = device
        self.threads = threads

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

    def version(self) -> str:
        """The framework's version, for reports; "" where there is none."""
        return ""
