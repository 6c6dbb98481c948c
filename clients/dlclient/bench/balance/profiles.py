"""The models of the comparison: the mix of the 2018 stream, as it was published, made into simulated models.

Forwards and sizes are the published ones of MXNet on a GTX 1080 Ti (`cortex` in dashboards/reference/published.csv: read off
charts, 10 %); between a batch of 1 and one of 64 the time is taken to grow evenly. A load is bytes / bandwidth.
"""

from collections.abc import Sequence
from pathlib import Path

from dlmodels.model_file import write_model
from dlmodels.spec import ModelSpec

from dlclient.balance_result import Profile

MIB = 1 << 20
MAX_BATCH = 32
"""Of dlserve, unless told otherwise: forwards are given up to it."""
_PUBLISHED = (
    ("caffenet", 232, 2.2, 40),
    ("nin", 29, 2.1, 43),
    ("squeezenet_v1.1", 5, 2.2, 46),
    ("vgg16", 528, 5.8, 178),
    ("vgg19", 548, 6.7, 205),
    ("inception_v3", 43, 8.5, 80),
    ("resnet152", 230, 24, 252),
    ("resnet101", 284, 14, 183),
)
"""Name there, MiB of weights, ms of a batch of 1 and of 64."""
PROFILES = tuple(
    Profile(
        name=name,
        bytes=mebibytes * MIB,
        forward_s=one_ms / 1000,
        forward_64_s=sixty_four_ms / 1000,
        source=f"cortex-size-{name}, cortex-gpu-{name}-b1, cortex-gpu-{name}-b64",
    )
    for name, mebibytes, one_ms, sixty_four_ms in _PUBLISHED
)


def forwards_s(profile: Profile, scale: float) -> tuple[float, ...]:
    """Seconds of a batch of 1, 2, ... up to MAX_BATCH."""
    step_s = (profile.forward_64_s - profile.forward_s) / 63
    return tuple(scale * (profile.forward_s + step_s * more) for more in range(MAX_BATCH))


def write_models(profiles: Sequence[Profile], folder: Path, scale: float, bandwidth: float) -> None:
    """A folder of simulated models for `dlserve --models-dir`; written anew where it is there."""
    for profile in profiles:
        own = folder / profile.name
        own.mkdir(parents=True, exist_ok=True)
        parameters: dict[str, object] = {
            "load_s": scale * profile.bytes / bandwidth,
            "forward_s": forwards_s(profile, scale),
            "bytes": profile.bytes,
        }
        write_model(own, ModelSpec(profile.name, "simulated", classes=2, parameters=parameters))


def budget_mb(profiles: Sequence[Profile], residency: str) -> int:
    """MiB of weights that a worker may hold: of all models, or a third of that, rounded up."""
    total = sum(profile.bytes for profile in profiles)
    return -(-total // (MIB if residency == "all" else 3 * MIB))
