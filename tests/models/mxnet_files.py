"""MXNet's files: small networks by MXNet itself, and `.params` files of every age, written by hand."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from dlmodels.engines.mxnet_import import import_mxnet
from numpy.typing import NDArray

Array = NDArray[np.float32]
Age = Literal["now", "1.0", "0.9"]
_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def params_file(arrays: Mapping[str, NDArray[Any]], age: Age = "now") -> bytes:
    """A `.params` file as MXNet of that age wrote it."""
    head = struct.pack("<3Q", 0x112, 0, len(arrays))
    names = [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    return (
        head
        + b"".join(_array(array, age) for array in arrays.values())
        + struct.pack("<Q", len(names))
        + b"".join(names)
    )


def _array(array: NDArray[Any], age: Age) -> bytes:
    dimensions = array.ndim
    if age == "now":
        head = struct.pack(f"<Iii{dimensions}q", 0xF993FAC9, 0, dimensions, *array.shape)
    elif age == "1.0":
        head = struct.pack(f"<II{dimensions}q", 0xF993FAC8, dimensions, *array.shape)
    else:
        head = struct.pack(f"<I{dimensions}I", dimensions, *array.shape)
    return head + struct.pack("<3i", 1, 0, _TYPES[array.dtype.name]) + array.tobytes()


@dataclass(frozen=True)
class Net:
    """Five classes from 3 x 16 x 16: a grouped convolution, normalizations of all kinds, a shortcut, a linear layer.

    Settings that MXNet has by default are left out, as they are in its own files.
    """

    softmax: bool = True
    """Ends with a SoftmaxOutput, whose label is an input, as Module's checkpoints do."""
    data: str = "data"
    more_outputs: bool = False
    operator: str = ""
    """Another operator at the end."""
    seed: int = 0

    @property
    def weights(self) -> dict[str, Array]:
        """Name -> array; statistics too."""
        random = np.random.default_rng(self.seed)

        def draw(*shape: int) -> Array:
            return random.standard_normal(shape, dtype=np.float32)

        arrays = {
            "conv0_weight": draw(8, 3, 3, 3), "conv0_bias": draw(8),
            "conv1_weight": draw(8, 4, 3, 3) / 4, "conv1_bias": draw(8),
            "fc_weight": draw(5, 8) / 16, "fc_bias": draw(5),
        }  # fmt: skip
        for name in ("bn0", "bn1"):
            arrays |= {f"{name}_gamma": draw(8), f"{name}_beta": draw(8)}
            arrays |= {f"{name}_moving_mean": draw(8), f"{name}_moving_var": np.abs(draw(8)) + np.float32(0.5)}
        return arrays

    @property
    def symbol(self) -> Any:
        """The network, in MXNet's terms."""
        mx = import_mxnet().symbol
        with import_mxnet().name.NameManager():
            x = mx.Convolution(mx.var(self.data), kernel=(3, 3), pad=(1, 1), num_filter=8, name="conv0")
            x = mx.Activation(mx.BatchNorm(x, fix_gamma=False, eps=1e-3, name="bn0"), act_type="relu", name="relu0")
            shortcut = x = mx.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
            x = mx.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=8, num_group=2, name="conv1")
            x = mx.Activation(mx.BatchNorm(x, name="bn1") + shortcut, act_type="relu")
            x = mx.LRN(x, nsize=3, alpha=0.1, name="lrn")
            pooled = mx.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg", name="pooled")
            x = mx.FullyConnected(pooled, num_hidden=5, name="fc")
            if self.operator:
                x = getattr(mx, self.operator)(x, name="odd")
            x = mx.SoftmaxOutput(x, name="softmax") if self.softmax else x
            return mx.Group([pooled, x]) if self.more_outputs else x

    def write(self, folder: Path, name: str = "net") -> None:
        """As `Module.save_checkpoint(name, 0)` does."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-symbol.json").write_text(self.symbol.tojson())
        states = set(self.symbol.list_auxiliary_states())
        kinds = {key: "aux" if key in states else "arg" for key in self.weights}
        stored = {f"{kinds[key]}:{key}": array for key, array in self.weights.items()}
        (folder / f"{name}-0000.params").write_bytes(params_file(stored))

    def answers(self, batch: Array) -> Array:
        """The same by torch."""
        functional = torch.nn.functional
        weights = {key: torch.from_numpy(array) for key, array in self.weights.items()}
        weights["bn1_gamma"] = torch.ones(8)  # that is what fix_gamma means

        def normalized(x: torch.Tensor, name: str) -> torch.Tensor:
            mean, variance = weights[f"{name}_moving_mean"], weights[f"{name}_moving_var"]
            return functional.batch_norm(x, mean, variance, weights[f"{name}_gamma"], weights[f"{name}_beta"], eps=1e-3)

        x = functional.conv2d(torch.from_numpy(batch), weights["conv0_weight"], weights["conv0_bias"], padding=1)
        x = functional.max_pool2d(normalized(x, "bn0").relu(), 3, 2, ceil_mode=True)
        y = functional.conv2d(x, weights["conv1_weight"], weights["conv1_bias"], padding=1, groups=2)
        x = (normalized(y, "bn1") + x).relu()
        x = functional.local_response_norm(x, 3, alpha=0.1, beta=0.75, k=2.0).mean((2, 3))
        return functional.linear(x, weights["fc_weight"], weights["fc_bias"]).softmax(1).numpy()
