"""Modules side by side: what every Inception block is made of."""

import torch
from torch import nn


class Branches(nn.ModuleList):
    """All modules see the same input; their outputs are joined along the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> (n, sum of the branches' channels, height', width')."""
        return torch.cat([branch(x) for branch in self], 1)
