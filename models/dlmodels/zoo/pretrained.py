"""torchvision's own trained weights: fetched once into torch's cache, checked, and read without unpickling objects."""

import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from dlmodels.errors import BuildError
from dlmodels.zoo.catalog import CLASSES, find
from dlmodels.zoo.skeleton import skeleton

Fetch = Callable[[str, Path], None]
"""Brings a URL's content to a path. Raises OSError."""

_HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")
_DENSENET_OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")  # names from before module names lost dots


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where torchvision's weights of a network are to be found."""

    url: str
    path: Path
    """In torch's cache (TORCH_HOME)."""
    sha256_prefix: str
    """Part of the file's name."""


def checkpoint(architecture: str) -> Checkpoint:
    """Of the weights that the catalog names (`Network.trained`). Raises UnknownArchitectureError."""
    network = find(architecture)
    url: str = torchvision.models.get_model_weights(network.name)[network.trained].url
    name = Path(urllib.parse.urlparse(url).path).name
    found = _HASH.search(name)
    return Checkpoint(url, Path(torch.hub.get_dir()) / "checkpoints" / name, found[1] if found else "")


def download(url: str, path: Path) -> None:
    """Fetch with torch's own means. Raises OSError."""
    torch.hub.download_url_to_file(url, str(path), progress=False)


def pretrained_weights(
    architecture: str, where: Checkpoint | None = None, fetch: Fetch = download
) -> dict[str, NDArray[np.generic]]:
    """The state dict of torchvision's trained network, as the zoo's skeleton has it.

    Raises UnknownArchitectureError, or BuildError where the file cannot be had or is not what it should be.
    """
    where = where or checkpoint(architecture)
    if not where.path.exists():
        _fetch(architecture, where, fetch)
    with where.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(where.sha256_prefix):
        raise BuildError(
            f"{where.path} is damaged: its sha256 is {digest[:16]}..., and should begin with {where.sha256_prefix}."
            " Delete it and build again"
        )
    try:
        state = torch.load(where.path, map_location="cpu", weights_only=True)
    except Exception as exc:  # whatever the restricted unpickler stumbles over
        raise BuildError(f"{where.path} is no checkpoint that torch can read safely ({exc}): delete it") from exc
    return _fit(architecture, where.path, state)


def _fetch(architecture: str, where: Checkpoint, fetch: Fetch) -> None:
    part = where.path.with_suffix(f".{os.getpid()}.part")
    try:
        where.path.parent.mkdir(parents=True, exist_ok=True)
        fetch(where.url, part)
        part.rename(where.path)
    except OSError as exc:
        raise BuildError(
            f"the trained weights of {architecture} are not on this machine and cannot be downloaded ({exc})."
            f" Fetch {where.url} where there is a network, put it at {where.path}, and build again;"
            " or leave out --pretrained for random weights"
        ) from exc
    finally:
        part.unlink(missing_ok=True)


def _fit(architecture: str, path: Path, state: object) -> dict[str, NDArray[np.generic]]:
    """Match a checkpoint with the skeleton: old names, no auxiliary classifiers, no counters from before there were any."""
    wanted = skeleton(architecture, CLASSES).state_dict()
    tensors = cast("dict[str, torch.Tensor]", state) if isinstance(state, dict) else {}
    tensors = {_DENSENET_OLD.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    fitted: dict[str, NDArray[np.generic]] = {}
    for name, shape in ((name, tensor.shape) for name, tensor in wanted.items()):
        if name.endswith("num_batches_tracked") and name not in tensors:
            fitted[name] = np.zeros((), np.int64)
        elif name not in tensors or tensors[name].shape != shape:
            raise BuildError(
                f"{path} is no checkpoint of {architecture}: {name} is missing or of another shape; delete it"
            )
        else:
            fitted[name] = tensors[name].to(wanted[name].dtype).numpy()
    return fitted
