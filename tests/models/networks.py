"""Networks, and pictures for them, that the tests of the torch engine share."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
import torchvision
from dlmodels.images import InputSpec, Planes

NETWORKS = ("squeezenet1_1", "shufflenet_v2_x0_5")
SMALL = InputSpec(width=16, height=16)


def pictures(count: int, shape: tuple[int, int, int] = (3, 224, 224)) -> Planes:
    """Smooth random pictures, all different."""
    random = np.random.default_rng(0)
    cells = random.standard_normal((count, shape[0], 8, 8), dtype=np.float32)
    return cells.repeat(shape[1] // 8, 2).repeat(shape[2] // 8, 3)


def by_torchvision(repository: Path, name: str) -> torch.nn.Module:
    """The same network by torchvision's own means; the filters of our files lie as (out, height, width, in)."""
    state = safetensors.torch.load_file(repository / name / "weights.safetensors")
    network: torch.nn.Module = torchvision.models.get_model(name, weights=None).eval()
    network.load_state_dict(
        {key: tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for key, tensor in state.items()}
    )
    return network


class Scores(NamedTuple):
    """What a network with auxiliary classifiers returns."""

    logits: torch.Tensor
    aux: torch.Tensor | None


class Tiny(torch.nn.Module):
    """Five classes from 3 x 16 x 16, or what `kind` asks for."""

    def __init__(self, kind: str = "plain") -> None:
        super().__init__()
        self.kind = kind
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores; misbehaves for batches where `kind` says so."""
        x = self.last(self.convolution(x).mean((2, 3)))
        if self.kind == "memory" and x.size(0) > 1:
            x = x + torch.zeros(1 << 52, device=x.device)[0]
        if self.kind == "nan" and x.size(0) > 1:
            x = x / torch.zeros_like(x)
        if self.kind == "squeezed":
            x = x[:, :, None, None]
        if self.kind == "probabilities":
            x = x.softmax(1)
        if self.kind == "independent":
            x = x.sigmoid()
        if self.kind == "one score":
            x = x.mean()
        return x


class TwoOutputs(Tiny):
    """As GoogLeNet, scripted."""

    def forward(self, x: torch.Tensor) -> Scores:  # type: ignore[override]
        """Scores of both classifiers."""
        scores = self.last(self.convolution(x).mean((2, 3)))
        return Scores(scores, scores * 0)


class Pair(Tiny):
    """Two tensors of which neither is named."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Scores twice."""
        scores = self.last(self.convolution(x).mean((2, 3)))
        return scores, scores
