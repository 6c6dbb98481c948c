"""Making a model folder of a zoo network: weights.safetensors, corresp.txt, model.toml."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torchvision

from dlmodels.engines.safetensors_file import CHANNELS_LAST, FILTER_DIMENSIONS
from dlmodels.errors import BuildError
from dlmodels.labels import write_labels
from dlmodels.repository import ModelSpec, check_absent, read_model, write_model
from dlmodels.zoo.catalog import CLASSES, Network, find
from dlmodels.zoo.pretrained import Fetch, download, pretrained_weights
from dlmodels.zoo.random_weights import random_weights

WEIGHTS_FILE = "weights.safetensors"
LABELS_FILE = "corresp.txt"


def build(
    name: str,
    repository: Path,
    *,
    seed: int = 0,
    pretrained: bool = False,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    fetch: Fetch = download,
) -> ModelSpec:
    """Build the folder `repository`/`name`; it appears only when it is complete. `progress` gets a line for each step.

    Raises UnknownArchitectureError, or BuildError: the folder exists (and no `force`), cannot be written, or there are no
    trained weights to be had.
    """
    network = find(name)
    folder = repository.absolute() / name
    if not force:
        check_absent(folder)
    unfinished = folder.with_name(f".{name}.{os.getpid()}")  # hidden: no scan takes it for a model
    try:
        unfinished.mkdir(parents=True)
        _write(network, unfinished, seed, pretrained, progress, fetch)
        _replace(folder, unfinished)
    except OSError as exc:
        raise BuildError(f"{folder} cannot be written ({exc}): choose another --repository, or free space") from exc
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return read_model(folder)


def _write(
    network: Network, folder: Path, seed: int, pretrained: bool, progress: Callable[[str], None], fetch: Fetch
) -> None:
    if pretrained:
        progress(f"{network.name}: reading torchvision's trained weights")
        weights = pretrained_weights(network.name, fetch=fetch)
    else:
        progress(f"{network.name}: drawing {network.parameters / 1e6:.1f} million random weights, seed {seed}")
        weights = random_weights(network.name, seed)
    progress(f"{network.name}: writing {network.bytes / 1e6:.0f} MB")
    # Filters as the convolutions want them: they are used where they lie in the file, never rearranged at a load.
    arranged = {
        key: np.ascontiguousarray(tensor.transpose(0, 2, 3, 1)) if tensor.ndim == FILTER_DIMENSIONS else tensor
        for key, tensor in weights.items()
    }
    safetensors.numpy.save_file(arranged, folder / WEIGHTS_FILE, metadata={"layout": CHANNELS_LAST})
    categories = torchvision.models.get_model_weights(network.name)["IMAGENET1K_V1"].meta["categories"]
    write_labels(folder / LABELS_FILE, categories)
    write_model(
        folder,
        ModelSpec(
            name=network.name,
            engine="torch",
            architecture=network.name,
            weights=WEIGHTS_FILE,
            classes=CLASSES,
            input=network.input,
            labels=LABELS_FILE,
        ),
    )


def _replace(folder: Path, finished: Path) -> None:
    """Put the finished folder in its place; what was there goes only when the new one is there."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)
