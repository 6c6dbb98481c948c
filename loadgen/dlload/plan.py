"""What is sent, in which order: drawn from a seed before anything is sent. Pure: no I/O, no clock.

The same header gives the same plan, byte for byte, on every machine and Python: all randomness is
`random.Random.random`, whose sequence Python promises to keep. Models and images come from generators of their own,
seeded with the first 8 bytes, big-endian, of SHA-256("dlserve-plan/1:<seed>:models") and of
SHA-256("dlserve-plan/1:<seed>:images"). So another mix sends the same images in the same order, and other images go to
the same models.
"""

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import msgspec
from dlclient.results import PLAN_SCHEMA, PlanHeader, Slot

from dlload.errors import OptionError

_WEIGHT_STEPS = 1 << 32
"""Weights become integers of this sum, so that no rounding of a machine's arithmetic can move a draw."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of every phase, and what they were drawn from."""

    header: PlanHeader
    slots: tuple[Slot, ...]

    def encode(self) -> bytes:
        """The content of plan.jsonl."""
        return b"".join(msgspec.json.encode(line) + b"\n" for line in (self.header, *self.slots))

    def sha256(self) -> str:
        """Digest of plan.jsonl."""
        return hashlib.sha256(self.encode()).hexdigest()


def draw(
    *, seed: int, requests: int, services: Sequence[str], mix: str, images: Sequence[str], batch_size: int
) -> Plan:
    """For each request a model by the mix, and `batch_size` images, each any of `images` with equal chance.

    Raises OptionError.
    """
    if requests < 1:
        raise OptionError(f"--requests {requests}: a phase needs at least one request")
    if batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: a request needs at least one image")
    weights = mix_weights(mix, services)
    served = tuple(service for service in services if weights[service] > 0)
    bounds = list(accumulate(_steps([weights[service] for service in served])))
    models = _generator(seed, "models")
    pictures = _generator(seed, "images")
    slots = tuple(
        Slot(
            index=index,
            model=served[bisect_right(bounds, int(models.random() * bounds[-1]))],
            images=tuple(images[int(pictures.random() * len(images))] for _ in range(batch_size)),
        )
        for index in range(requests)
    )
    header = PlanHeader(
        schema=PLAN_SCHEMA,
        seed=seed,
        requests=requests,
        services=served,
        mix=mix,
        images=tuple(images),
        batch_size=batch_size,
    )
    return Plan(header, slots)


def mix_weights(mix: str, services: Sequence[str]) -> dict[str, float]:
    """How often each service is asked, relative to the others.

    `uniform`: all equally. `zipf:S`: the k-th service (in the order given) with weight k**-S. `a=3,b=1`: as written;
    every service must be named, 0 leaves one out. Raises OptionError.
    """
    if not services:
        raise OptionError("there is no service to send to; name some with --services")
    kind, colon, exponent = mix.partition(":")
    if mix == "uniform":
        return dict.fromkeys(services, 1.0)
    if kind == "zipf" and colon:
        power = _weight(exponent, f"--mix {mix}: the exponent after zipf:")
        return {service: rank**-power for rank, service in enumerate(services, start=1)}
    if "=" in mix:
        return _named_weights(mix, services)
    raise OptionError(f"--mix {mix}: not a mix; use uniform, zipf:S such as zipf:1.1, or weights such as a=3,b=1")


def _named_weights(mix: str, services: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in mix.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise OptionError(f"--mix {mix}: {part!r} is no weight; write name=number, with commas between")
        if name in weights:
            raise OptionError(f"--mix {mix}: {name} is there twice; give it one weight")
        weights[name] = _weight(number, f"--mix {mix}: the weight of {name}")
    if unknown := [name for name in weights if name not in services]:
        raise OptionError(f"--mix {mix}: {', '.join(unknown)}: not among the services {', '.join(services)}")
    if missing := [name for name in services if name not in weights]:
        raise OptionError(f"--mix {mix}: no weight for {', '.join(missing)}; give each one, 0 leaves a service out")
    if not any(weights.values()):
        raise OptionError(f"--mix {mix}: all weights are 0; give at least one service more")
    return {service: weights[service] for service in services}


def _weight(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise OptionError(f"{what} must be a number of 0 or more, not {text!r}")
    return number


def _steps(weights: Sequence[float]) -> list[int]:
    total = math.fsum(weights)
    return [max(1, round(weight / total * _WEIGHT_STEPS)) for weight in weights]


def _generator(seed: int, purpose: str) -> random.Random:
    digest = hashlib.sha256(f"{PLAN_SCHEMA}:{seed}:{purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))  # noqa: S311  reproducible, not secret
