"""torch.compile, done when a model is prepared, so that no request pays for it."""

import warnings

import numpy as np
import torch

from dlmodels.engines.torch_model import TorchModel
from dlmodels.errors import ForwardError, SettingError

_TRIED = (1, 2, 3)
"""Sizes of batch: one alone, then two different ones, after which torch makes the size a variable."""


class Compiled:
    """A network whose forward torch's compiler has translated; its parameters may be re-pointed as before."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._forward = torch.compile(network)

    def __call__(self, images: torch.Tensor) -> object:
        """As the network."""
        return self._forward(images)

    def warm_up(self, model: TorchModel) -> None:
        """Compile for all sizes of batch. Raises SettingError where that cannot be done here."""
        model.load()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own parts: deprecations, and hints for training
                for count in _TRIED:
                    if model.most_images is None or count <= model.most_images:
                        model.run(np.zeros((count, *model.spec.input.shape), np.float32))
        except ForwardError as exc:
            raise SettingError(
                f"model {model.spec.name!r} cannot be compiled here ({exc}): install a C++ compiler (g++), for a GPU"
                " triton too, or leave `compile` out"
            ) from exc
        finally:
            model.unload()
