"""Local response normalization across channels (Krizhevsky et al. 2012, section 3.3), as Caffe defines its strength."""

from typing import Any

import torch
from torch import nn

_BIAS = 1.0


class LocalResponseNorm(nn.Module):
    """``x / (1 + alpha / size * sum)**beta``, the sum being that of the squares in the `size` channels around each.

    Caffe, torch and ONNX all divide `alpha` by `size`; the paper does not. A graph exported to ONNX, by either of torch's
    exporters, holds the operator LRN, not the dozen that torch makes of it. `size` is odd.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> the same shape."""
        if not torch.onnx.is_in_onnx_export():
            return _normalized(x, self.size, self.alpha, self.beta)
        if not torch.compiler.is_exporting():
            traced: torch.Tensor = _TracedOperator.apply(x, self.size, self.alpha, self.beta)
            return traced
        return torch.onnx.ops.symbolic(
            "LRN",
            (x,),
            {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": _BIAS},
            dtype=x.dtype,
            shape=x.shape,
        )


def _normalized(x: torch.Tensor, size: int, alpha: float, beta: float) -> torch.Tensor:
    """torch's own in a third of its time on a CPU, where the channels lie side by side, and without a look at the data."""
    last = x.permute(0, 2, 3, 1)
    mean = nn.functional.avg_pool2d(last * last, (1, size), stride=1, padding=(0, size // 2))
    return (last / (_BIAS + alpha * mean) ** beta).permute(0, 3, 1, 2)


class _TracedOperator(torch.autograd.Function):
    """How torch's exporter by tracing is told of an operator."""

    @staticmethod
    def forward(_: Any, x: torch.Tensor, size: int, alpha: float, beta: float) -> torch.Tensor:
        return _normalized(x, size, alpha, beta)

    @staticmethod
    def symbolic(graph: Any, x: Any, size: int, alpha: float, beta: float) -> Any:
        return graph.op("LRN", x, size_i=size, alpha_f=alpha, beta_f=beta, bias_f=_BIAS).setType(x.type())
