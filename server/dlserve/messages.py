"""What crosses between a front end and a worker: frames on a Unix stream socket.

A frame is ``<u32 meta size><u32 body size><meta: msgpack><body>``. `meta` is one of the structs below, told apart by a
tag; `body` is the concatenation of a Job's item bytes, unless they lie in a slot of shared memory, and empty for everything
else. Times are seconds on `time.perf_counter`, which is one clock for all processes on Linux. A worker connects to each
front end and says Hello.
"""

import struct
from typing import Any, Literal, get_args

import msgspec
from dlmodels.engines.base import Temperature
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec

from dlserve.slots import NOWHERE

HEADER = struct.Struct("<II")
MAX_META_BYTES = 64 << 20

TEMPERATURES: tuple[Temperature, ...] = get_args(Temperature)
"""From the warmest to the coldest."""

ItemKind = Literal["bytes", "base64", "path", "pixels", "planes"]
"""How a worker gets at an input: an image file as sent (bytes), after base64 decoding, or by reading a path (a file or a
whole directory); or what is decoded already (pixels: uint8 HWC, to be resized and normalized; planes: float32 CHW, done)."""

AS_SENT: frozenset[ItemKind] = frozenset({"bytes", "pixels", "planes"})
"""Kinds whose bytes are what the client meant: a model that decodes nothing is handed them as they came."""

Tier = Literal["device", "host"]
"""Where a budget holds: the device's memory; pinned memory of this machine."""

Why = Literal["request", "cold", "ahead", "prefetch", "standing"]
"""What weights were loaded for: a request that waited, one that asked for a cold start, --preload and --pin, a hint.
standing: they have not been loaded just now; they were there before this front end came."""

FailureKind = Literal["input", "request", "model", "internal", "memory", "cancelled", "expired"]
"""input: unreadable image (1005); request: bad parameters or repository (1006); model: its files are missing or damaged
(1006 where a service is made of them, 500 where it was good before); internal: the engine failed (500);
memory: no room even for one image; cancelled: dropped before it ran because its client had left; expired: because its deadline had passed (504)."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all messages; arrays on the wire, told apart by their class name."""


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One input of a job. `size`: its bytes in the frame's body. `uri`: what the answer calls it.

    `shape`: of pixels (height, width, channels), in the network's channel order; of the others none.
    """

    kind: ItemKind
    size: int
    uri: str
    shape: tuple[int, ...] = ()


# ---- front end -> worker


class Define(Message, frozen=True):
    """Make a service known. Sent for every service after Hello and for each new one; costs the worker nothing yet.

    Where another front end has defined it before, what is known of it and held of it follows: Described, and Loaded.
    """

    service: int
    """Unique over the server's life: a deleted and re-created name has a new number."""
    spec: ModelSpec


class Prepare(Message, frozen=True):
    """Check a service's files, build its skeleton and, if `load`, bring its weights to the device. Answer: Prepared."""

    id: int
    service: int
    load: bool


class Prefetch(Message, frozen=True):
    """A hint: load the service's weights once the device has nothing to do, if no other model must leave for it.

    Answer: Prepared; its `load_s` is 0 where nothing was loaded.
    """

    id: int
    service: int


class Forget(Message, frozen=True):
    """The service is deleted: once every front end has said so, or gone, all it holds is freed.

    Jobs of it that came before are still answered.
    """

    service: int


class Job(Message, frozen=True):
    """One predict call: n inputs that run as one batch. Answer: Reply or Failure."""

    id: int
    service: int
    items: tuple[Item, ...]
    input: InputSpec | None
    """None: the service's own."""
    cache: Temperature | None
    """Demote the model to this tier first, outside the timed part; None: take it as it is."""
    best: int
    """Classes to return per image, most probable first; -1: all."""
    threshold: float
    """Classes of a lower probability are left out."""
    sent: float
    lone: bool = False
    """Nothing else was under way in the whole server: whoever waits may keep its processor awake for a moment."""
    whole: bool = False
    """Answer with `Reply.rows` too: every class's probability, in the order of the classes."""
    deadline: float | None = None
    """When its answer is worth nothing any more (a time, not a duration): if it has not begun to run by then, it is dropped."""
    place: int = NOWHERE
    """The slot that the items' bytes are in; NOWHERE: they follow in the frame."""


class Cancel(Message, frozen=True):
    """The client has left: drop the job if it has not begun to run. Answer: Failure("cancelled") or the Reply."""

    id: int


# ---- worker -> front end


class EngineFacts(msgspec.Struct, frozen=True, array_like=True):
    """What an engine can do on a worker's device."""

    name: str
    version: str
    """Of its framework; "" where it needs none, or none is installed."""
    formats: tuple[str, ...]
    """What it reads, for people."""
    devices: tuple[str, ...]
    settings: tuple[str, ...]
    """Names of what `parameters.mllib` may set."""
    missing: str
    """Why it cannot work here, and the cure; "" if it can."""


class Hello(Message, frozen=True):
    """First message of a worker. `generation` counts its restarts from 0."""

    worker: int
    generation: int
    pid: int
    device: str
    device_name: str
    budget_bytes: int
    host_bytes: int
    """Of the host tier."""
    engines: tuple[EngineFacts, ...]


class Prepared(Message, frozen=True):
    """Answer to Prepare and Prefetch. `error` is "" if it worked, else `failure` says whose fault it was."""

    id: int
    weights_bytes: int
    load_s: float
    reload_tiers: tuple[Temperature, ...]
    failure: FailureKind | None
    error: str


class Described(Message, frozen=True):
    """A service's skeleton was built: what is known of it since. Sent once by each worker to each front end, before its first answer."""

    service: int
    weights_bytes: int
    reload_tiers: tuple[Temperature, ...]
    settings: dict[str, Any]
    """What the framework really uses, as `Model.settings` has read it back."""


class Loaded(Message, frozen=True):
    """A model's weights came into a tier. `used_bytes`: of the tier's budget, after it."""

    service: int
    tier: Tier
    source: Temperature
    """Where they were; of the host tier always "disk"."""
    why: Why
    at: float
    """When they were there (a time, not a duration)."""
    seconds: float
    bytes: int
    used_bytes: int
    counts: bool = True
    """Of several front ends, all are told and one counts it: the one for whose sake it happened."""


class Evicted(Message, frozen=True):
    """A model's weights left a tier. `used_bytes`: of the tier's budget, after it."""

    service: int
    tier: Tier
    reason: Literal["room", "asked", "forgotten"]
    """room (for another), asked (a colder start), forgotten (deleted)."""
    at: float
    """When they were gone (a time, not a duration)."""
    bytes: int
    used_bytes: int
    counts: bool = True
    """As in Loaded."""


class Stages(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a job's time in the worker went, in seconds; they add up to `replied - received` but for `demote`."""

    received: float
    """When the frame was complete in the worker (a time, not a duration)."""
    decode: float
    queue: float
    demote: float
    """Making the model as cold as the request asked; not part of what is being measured."""
    load: float
    forward: float
    post: float
    replied: float
    """When the reply was handed to the socket (a time, not a duration)."""

    @property
    def in_worker_s(self) -> float:
        """From its arrival to its reply, but for `demote`."""
        return self.replied - self.received - self.demote


class Reply(Message, frozen=True):
    """A job's answer: per image, (class index, probability) pairs, most probable first."""

    id: int
    predictions: tuple[tuple[tuple[int, float], ...], ...]
    uris: tuple[str, ...] | None
    """Set where a directory was expanded: one per prediction; otherwise the job's own."""
    cache: Temperature
    """The tier in which the job found the model."""
    batch_size: int
    """Images in the forward that computed it (the largest, where the batch was split)."""
    stages: Stages
    rows: bytes = b""
    """Where the job asked for it whole: float32 in this machine's order, a row of all classes per image."""
    pays_up_to: int = 0
    """Images beyond which the worker grows no batch of this model, for it would not pay; 0: none is known."""
    in_turn_s: float = 0.0
    """What decoding the batch took in its turn, before the forward; 0: its images were decoded while others ran."""

    @property
    def batch_s(self) -> float:
        """For so long no other batch could run."""
        return self.in_turn_s + self.stages.forward

    @property
    def decode_ahead_s(self) -> float:
        """What the job's images took before they could join a batch."""
        return 0.0 if self.in_turn_s else self.stages.decode


class Failure(Message, frozen=True):
    """A job that could not be answered. `message` says why and what to do next."""

    id: int
    failure: FailureKind
    message: str


ToWorker = Define | Prepare | Prefetch | Forget | Job | Cancel
ToFront = Hello | Prepared | Described | Loaded | Evicted | Reply | Failure

_encoder = msgspec.msgpack.Encoder()


def frame(message: Message, body_size: int = 0) -> bytes:
    """Header and meta of a message; `body_size` bytes of body must follow it on the wire."""
    meta = _encoder.encode(message)
    return HEADER.pack(len(meta), body_size) + meta
