"""Architectures without weights: torchvision's networks on the meta device, where building one takes milliseconds."""

from types import MappingProxyType

import torch
import torchvision

from dlmodels.zoo.catalog import find

_OPTIONS = MappingProxyType(
    {
        # Only training uses the auxiliary classifiers. Both take pixels normalized with 0.5, and the published weights
        # come with the step that makes ImageNet's normalization into that.
        "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": True},
        "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": True},
    }
)


def skeleton(architecture: str, classes: int) -> torch.nn.Module:
    """The network in evaluation mode, its parameters and buffers on the meta device: shapes without content.

    Raises UnknownArchitectureError.
    """
    name = find(architecture).name
    with torch.device("meta"):
        module: torch.nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})
        )
    return module.eval().requires_grad_(requires_grad=False)
