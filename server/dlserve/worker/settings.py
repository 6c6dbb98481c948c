"""All that a worker is told when it starts: one line of JSON from its supervisor."""

from typing import Annotated, Literal

import msgspec

from dlserve.eviction import Eviction

Count = Annotated[int, msgspec.Meta(ge=1)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One worker's frozen settings; each is set by the supervisor, from its own Config."""

    worker: Annotated[int, msgspec.Meta(ge=0)]
    """Its number, 0 to N-1."""
    generation: Annotated[int, msgspec.Meta(ge=0)]
    """How often this worker was restarted."""
    device: Annotated[str, msgspec.Meta(pattern=r"^(cpu|cuda:\d+)$")]
    threads: Count
    """CPU threads that an engine may compute with."""
    decode_threads: Count
    """Threads that decode images, beside the one that runs models."""
    decode_in_turn: bool = False
    """That one has no core that it could leave idle, so it decodes what was sent itself, if its model computes on the CPU."""
    budget_bytes: Bytes
    """What the weights on the device may take in all."""
    host_bytes: Bytes = 0
    """What the weights in pinned host memory may take in all; 0: there is no host tier."""
    eviction: Eviction = "value"
    pinned: tuple[str, ...] = ()
    """Models that never leave the device for another's sake."""
    drop_page_cache: bool = False
    """A start from disk reads the disk: the page cache is made to forget the files first."""
    max_batch: Count
    batch_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """How long a job waits for others to share its batch."""
    max_pixels: Count
    """Of one image, known from its header before it is decoded."""
    max_images: Count
    """Of one call, after directories are expanded."""
    max_body_bytes: Count
    """Of one call's body, and of each file that it names."""
    front_sockets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Paths of the Unix sockets on which the front ends listen, one for each."""
    body_fds: tuple[int, ...] = ()
    """Inherited memory in which the front ends leave bodies, in the same order; none: they send them along."""
    data_roots: tuple[str, ...]
    """Absolute folders; only files below one of them are read for a call."""
    engines: tuple[str, ...]
    """Engines to start before the worker says it is ready; the others start when first needed."""
    log_format: Literal["text", "json"]
    visible_gpus: str | None = None
    """CUDA_VISIBLE_DEVICES; None: unset. It decides which GPU "cuda:0" is, so what its name is."""


def parse_settings(line: bytes) -> WorkerSettings:
    """The settings in one line of JSON. Raises msgspec.ValidationError or DecodeError naming the field."""
    return msgspec.json.decode(line, type=WorkerSettings)
