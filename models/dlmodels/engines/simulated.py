"""An engine that sleeps: known load and forward times and a known size, for policies, tests and checks of load testers.

Its answers are probabilities that depend on the input's bytes and the seed alone, so that a mixed-up reply shows. Its
bytes are booked, never allocated. Whatever ran on it must say so.
"""

import ctypes
import math
import random
import sys
import time
import zlib
from collections.abc import Callable
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Engine, Memory, Model
from dlmodels.engines.host import host_memory
from dlmodels.errors import ForwardError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec
from dlmodels.settings import parse_settings

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]

_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_FINGERPRINT_BYTES = 1024
_FINGERPRINT_PIXELS = 256


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a simulated model behaves: its `parameters` in model.toml, `parameters.mllib` in a request."""

    load_s: Seconds = 0.0
    forward_s: Seconds | tuple[Seconds, ...] = 0.0
    """A number: every batch takes that long. A list: entry i is for a batch of i + 1; see `forward_seconds`."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    """Standard deviation of load and forward times over their mean; both are lognormal with the mean asked for."""
    bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 0
    """What the loaded model counts for in the device's memory."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    decode: bool = False
    """True: inputs are decoded and preprocessed as for a real model, and broken ones are refused."""
    oom_above: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Batches larger than this run out of memory; None: none does."""

    def forward_seconds(self, batch_size: int) -> float:
        """Mean forward time of a batch. Beyond a list's end it grows by the list's last step (of one entry: from 0)."""
        if not isinstance(self.forward_s, tuple):
            return self.forward_s
        if batch_size <= len(self.forward_s):
            return self.forward_s[batch_size - 1]
        before, last = (0.0, *self.forward_s)[-2:]
        return max(last + (last - before) * (batch_size - len(self.forward_s)), 0.0)


def parse_profile(spec: ModelSpec) -> Profile:
    """The checked profile of a simulated model. Raises SettingError naming the key and what is valid."""
    profile = parse_settings(spec.parameters, Profile, f"simulated model {spec.name!r}")
    if profile.forward_s == ():
        raise SettingError(
            f"simulated model {spec.name!r}: forward_s is an empty list; give a number or seconds per batch"
        )
    if spec.classes < 1:
        raise SettingError(f"simulated model {spec.name!r} needs at least 1 class, not {spec.classes}")
    return profile


class SimulatedModel(Model):
    """Sleeps in place of loading and computing."""

    def __init__(self, spec: ModelSpec, engine: "SimulatedEngine") -> None:
        super().__init__(spec)
        self.profile = parse_profile(spec)
        self.decodes = self.profile.decode
        self._engine = engine
        self._loaded = False
        self._random = random.Random(f"{spec.name}:{self.profile.seed}")  # noqa: S311  a simulation's draws, seeded
        # Any rotation of the descending probabilities is a slice of two copies of them, laid end to end.
        weights = 1.0 / np.arange(1, spec.classes + 1, dtype=np.float64) ** 2
        self._twice = np.tile((weights / weights.sum()).astype(np.float32), 2)

    @property
    def weights_bytes(self) -> int:
        """The profile's bytes."""
        return self.profile.bytes

    def load(self) -> None:
        """Sleep for `load_s` and book the bytes."""
        if self._loaded:
            return
        free = self._engine.memory().free_bytes
        if self.profile.bytes > free:
            raise OutOfMemoryError(
                f"simulated model {self.spec.name!r} of {self.profile.bytes} bytes does not fit the {free} bytes free"
                " on the device: unload another model or lower its `bytes`"
            )
        self._engine.sharpen_sleep()
        self._sleep(self.profile.load_s)
        self._loaded = True
        self._engine.booked_bytes += self.profile.bytes

    def unload(self) -> None:
        """Give the booked bytes back."""
        if self._loaded:
            self._loaded = False
            self._engine.booked_bytes -= self.profile.bytes

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Sleep for the batch's forward time; the top class of each answer is drawn from its input's bytes."""
        size = len(batch)
        if not self._loaded or size == 0:
            raise ForwardError(f"simulated model {self.spec.name!r}: {'no input' if self._loaded else 'not loaded'}")
        if self.profile.oom_above is not None and size > self.profile.oom_above:
            raise OutOfMemoryError(
                f"a batch of {size} exceeds oom_above = {self.profile.oom_above}: send a smaller one"
            )
        self._sleep(self.profile.forward_seconds(size))
        classes = self.spec.classes
        answer = np.empty((size, classes), np.float32)
        for row, item in zip(answer, batch, strict=True):
            start = classes - self._fingerprint(item) % classes
            row[:] = self._twice[start : start + classes]
        return answer

    def _fingerprint(self, item: NDArray[np.float32] | bytes | memoryview) -> int:
        """A number from the seed, the length and some of the bytes: cheap, since its time is nobody's forward time."""
        if isinstance(item, np.ndarray):
            pixels = item.reshape(-1)
            item = pixels[:: max(pixels.size // _FINGERPRINT_PIXELS, 1)].tobytes()
        return zlib.crc32(item[-_FINGERPRINT_BYTES:], self.profile.seed ^ len(item))

    def _sleep(self, mean_s: float) -> None:
        if mean_s <= 0:
            return
        if self.profile.jitter > 0:
            variance = math.log1p(self.profile.jitter**2)  # of the logarithm, for a lognormal of mean 1
            mean_s *= self._random.lognormvariate(-variance / 2, math.sqrt(variance))
        self._engine.sleep(mean_s)


class SimulatedEngine(Engine):
    """Needs no framework and no device; its memory is this machine's, less what its models have booked."""

    name: ClassVar[str] = "simulated"

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        self.booked_bytes = 0
        self._total_bytes = 0
        self._libc: ctypes.CDLL | None = None
        self.sleep: Callable[[float], None] = time.sleep
        """What passes the time; a test may put a recorder here."""

    def start(self) -> None:
        """Nothing to import; what costs time is done here, once, so that no load's time holds it."""
        self._total_bytes = host_memory().total_bytes
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None)

    def prepare(self, spec: ModelSpec) -> SimulatedModel:
        """Check the profile. Raises SettingError."""
        return SimulatedModel(spec, self)

    def memory(self) -> Memory:
        """All of this machine's memory, as if only simulated models lived in it."""
        return Memory(self._total_bytes, max(self._total_bytes - self.booked_bytes, 0))

    def sharpen_sleep(self) -> None:
        """Let this thread's sleeps end on time: Linux otherwise adds 50 us to each, to save wake-ups."""
        if self._libc is not None:
            self._libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
