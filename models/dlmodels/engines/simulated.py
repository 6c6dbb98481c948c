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
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Engine, Memory, Model, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import ForwardError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec
from dlmodels.settings import parse_settings

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]

_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_FINGERPRINT_BYTES = 1024
_FINGERPRINT_PIXELS = 256


class Quantiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured distribution of times: draws follow its quantiles, interpolated linearly between neighbours."""

    quantiles: Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=2, max_length=1001)]
    """Ascending, at equal steps of probability from 0 (the least) to 1 (the most): of 5, every quarter."""

    def mean(self) -> float:
        """Of what is drawn."""
        ends = self.quantiles[0] + self.quantiles[-1]
        return (sum(self.quantiles) - ends / 2) / (len(self.quantiles) - 1)

    def at(self, probability: float) -> float:
        """The quantile of a probability of 0 to 1."""
        place = probability * (len(self.quantiles) - 1)
        before = min(int(place), len(self.quantiles) - 2)
        low, high = self.quantiles[before : before + 2]
        return low + (high - low) * (place - before)


Time = Seconds | Quantiles
"""A mean, around which `jitter` spreads what is drawn; or a distribution, `{quantiles = [...]}`."""


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a simulated model behaves: its `parameters` in model.toml, `parameters.mllib` in a request."""

    load_s: Time = 0.0
    """From the file to the device, all of it."""
    host_load_s: Time | None = None
    """Of that, the copy from pinned host memory to the device. None: the model has no host tier."""
    forward_s: Time | tuple[Time, ...] = 0.0
    """One time: every batch takes that long. A list: entry i is for a batch of i + 1; see `forward_time`."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    """Standard deviation over the mean of all times given as numbers; they are lognormal with the mean asked for."""
    bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 0
    """What the loaded model counts for in the device's memory."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    decode: bool = False
    """True: inputs are decoded and preprocessed as for a real model, and broken ones are refused."""
    oom_above: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Batches larger than this run out of memory; None: none does."""
    lanes: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    """How many batches it can run at a time, for who asks it to; a worker runs one."""

    def times(self) -> tuple[Time, ...]:
        """Every time that it names."""
        forwards = self.forward_s if isinstance(self.forward_s, tuple) else (self.forward_s,)
        return (self.load_s, *(() if self.host_load_s is None else (self.host_load_s,)), *forwards)

    def forward_time(self, batch_size: int) -> tuple[Time, float]:
        """What a batch's forward is drawn from, and what it is multiplied by then.

        Beyond a list's end the mean grows by the list's last step (of one entry: from 0).
        """
        if not isinstance(self.forward_s, tuple):
            return self.forward_s, 1.0
        if batch_size <= len(self.forward_s):
            return self.forward_s[batch_size - 1], 1.0
        before, last = (0.0, *map(mean, self.forward_s))[-2:]
        wanted = max(last + (last - before) * (batch_size - len(self.forward_s)), 0.0)
        return self.forward_s[-1], wanted / last if last else 0.0

    def forward_seconds(self, batch_size: int) -> float:
        """Mean forward time of a batch."""
        time, factor = self.forward_time(batch_size)
        return mean(time) * factor


def mean(time: Time) -> float:
    """Seconds, on average."""
    return time.mean() if isinstance(time, Quantiles) else time


def parse_profile(spec: ModelSpec) -> Profile:
    """The checked profile of a simulated model. Raises SettingError naming the key and what is valid."""
    what = f"simulated model {spec.name!r}"
    profile = parse_settings(spec.parameters, Profile, what)
    if profile.forward_s == ():
        raise SettingError(f"{what}: forward_s is an empty list; give a number or seconds per batch")
    distributions = [time for time in profile.times() if isinstance(time, Quantiles)]
    if any(list(one.quantiles) != sorted(one.quantiles) for one in distributions):
        raise SettingError(f"{what}: quantiles must ascend, from the least to the most")
    if profile.jitter and len(distributions) == len(profile.times()):
        raise SettingError(f"{what}: jitter spreads times given as numbers, and all are quantiles: leave it out")
    if spec.classes < 1:
        raise SettingError(f"{what} needs at least 1 class, not {spec.classes}")
    return profile


class SimulatedModel(Model):
    """Sleeps in place of loading and computing."""

    uses_cores = False

    def __init__(self, spec: ModelSpec, engine: "SimulatedEngine") -> None:
        super().__init__(spec)
        self.profile = parse_profile(spec)
        self.decodes = self.profile.decode
        self._engine = engine
        self._loaded = False
        self._staged = False
        if self.profile.host_load_s is not None and engine.place.host_bytes:
            self.reload_tiers = ("host", "disk")
        self._random = random.Random(f"{spec.name}:{self.profile.seed}")  # noqa: S311  a simulation's draws, seeded
        # Any rotation of the descending probabilities is a window on two copies of them, laid end to end; an answer is a view
        # of it, so it is not writeable.
        weights = 1.0 / np.arange(1, spec.classes + 1, dtype=np.float64) ** 2
        twice = np.tile((weights / weights.sum()).astype(np.float32), 2)
        self._rotations = np.lib.stride_tricks.sliding_window_view(twice, spec.classes)

    @property
    def settings(self) -> Mapping[str, object]:
        """The profile, with what it left out."""
        settings: dict[str, object] = msgspec.to_builtins(self.profile)
        return settings

    @property
    def weights_bytes(self) -> int:
        """The profile's bytes."""
        return self.profile.bytes

    @property
    def staged(self) -> bool:
        """Whether its bytes are booked in the host tier."""
        return self._staged

    def stage(self) -> None:
        """Sleep for the part of `load_s` that is no copy to the device, and book the bytes."""
        if self._staged:
            return
        if self.profile.host_load_s is None:
            super().stage()
        free = self._engine.place.host_bytes - self._engine.booked_host_bytes
        if self.profile.bytes > free:
            raise OutOfMemoryError(
                f"simulated model {self.spec.name!r} of {self.profile.bytes} bytes does not fit the {free} bytes free"
                " in the host tier: unstage another model or raise --host-cache-mb"
            )
        self._engine.sharpen_sleep()
        self._sleep(self._draw(self.profile.load_s) - self._draw(self.profile.host_load_s or 0.0))
        self._staged = True
        self._engine.booked_host_bytes += self.profile.bytes

    def unstage(self) -> None:
        """Give the booked bytes of the host tier back."""
        if self._staged:
            self._staged = False
            self._engine.booked_host_bytes -= self.profile.bytes

    def load(self) -> None:
        """Sleep for `load_s`, or `host_load_s` where it is staged, and book the bytes."""
        if self._loaded:
            return
        free = self._engine.memory().free_bytes
        if self.profile.bytes > free:
            raise OutOfMemoryError(
                f"simulated model {self.spec.name!r} of {self.profile.bytes} bytes does not fit the {free} bytes free"
                " on the device: unload another model or lower its `bytes`"
            )
        self._engine.sharpen_sleep()
        self._sleep(self._draw((self.profile.host_load_s or 0.0) if self._staged else self.profile.load_s))
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
        time, factor = self.profile.forward_time(size)
        self._sleep(self._draw(time) * factor)
        classes = self.spec.classes
        starts = [classes - self._fingerprint(item) % classes for item in batch]
        if size == 1:
            return self._rotations[starts[0] : starts[0] + 1]
        return self._rotations[starts]

    @property
    def lanes(self) -> Sequence[Callable[[Batch], NDArray[np.float32]]]:
        """As many as the profile says, none in another's way."""
        return (self.run,) * self.profile.lanes

    def _fingerprint(self, item: NDArray[np.float32] | bytes | memoryview) -> int:
        """A number from the seed, the length and some of the bytes: cheap, since its time is nobody's forward time."""
        if isinstance(item, np.ndarray):
            pixels = item.reshape(-1)
            item = pixels[:: max(pixels.size // _FINGERPRINT_PIXELS, 1)].tobytes()
        return zlib.crc32(item[-_FINGERPRINT_BYTES:], self.profile.seed ^ len(item))

    def _draw(self, time: Time) -> float:
        if isinstance(time, Quantiles):
            return time.at(self._random.random())
        if self.profile.jitter > 0:
            variance = math.log1p(self.profile.jitter**2)  # of the logarithm, for a lognormal of mean 1
            time *= self._random.lognormvariate(-variance / 2, math.sqrt(variance))
        return time

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._engine.sleep(seconds)


class SimulatedEngine(Engine):
    """Needs no framework and no device; its memory is this machine's, less what its models have booked."""

    name: ClassVar[str] = "simulated"
    formats: ClassVar[tuple[str, ...]] = ("a profile of load and forward times (model.toml)",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    settings_type: ClassVar[type[msgspec.Struct]] = Profile

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.booked_bytes = 0
        self.booked_host_bytes = 0
        """Of `place.host_bytes`."""
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
