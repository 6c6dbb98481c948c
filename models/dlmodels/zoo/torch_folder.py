"""The files of a torch network's model folder: weights.safetensors and corresp.txt."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import torchvision

from dlmodels.engines.safetensors_file import CHANNELS_LAST, FILTER_DIMENSIONS
from dlmodels.labels import write_labels
from dlmodels.spec import ModelSpec
from dlmodels.zoo.catalog import CLASSES
from dlmodels.zoo.network import Network
from dlmodels.zoo.pretrained import Fetch, download, pretrained_weights
from dlmodels.zoo.random_weights import random_weights

WEIGHTS_FILE = "weights.safetensors"
LABELS_FILE = "corresp.txt"
_ANY_WEIGHTS = ("resnet50", "IMAGENET1K_V1")  # all of torchvision's carry the same 1000 categories


def build_torch(
    network: Network,
    folder: Path,
    seed: int,
    *,
    pretrained: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    fetch: Fetch | None = None,
) -> ModelSpec:
    """Write them; what model.toml is to say. Raises BuildError (no trained weights to be had) or OSError."""
    if pretrained:
        progress(f"{network.name}: reading torchvision's trained weights")
        weights = pretrained_weights(network.name, fetch=fetch or download)
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
    name, trained = _ANY_WEIGHTS
    write_labels(folder / LABELS_FILE, torchvision.models.get_model_weights(name)[trained].meta["categories"])
    return ModelSpec(
        name=network.name,
        engine=network.engine,
        architecture=network.name,
        weights=WEIGHTS_FILE,
        classes=CLASSES,
        input=network.input,
        labels=LABELS_FILE,
    )
