"""Caffe's files, written by hand: a prototxt, and a caffemodel with the weights (the fields are those of caffe.proto)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]


def _varint(number: int) -> bytes:
    head = b""
    while number > 0x7F:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _blob(values: Array) -> bytes:
    shape = _field(1, b"".join(map(_varint, values.shape)))
    return _field(7, shape) + _field(5, values.astype("<f4").tobytes())


@dataclass(frozen=True)
class Layer:
    """One layer of a network; `text` is what the prototxt says of it beyond its name and its blobs."""

    name: str
    type: str
    bottoms: Sequence[str]
    top: str
    text: str = ""
    blobs: Sequence[Array] = field(default_factory=tuple)

    def prototxt(self) -> str:
        """As a prototxt has it."""
        bottoms = " ".join(f'bottom: "{bottom}"' for bottom in self.bottoms)
        return f'layer {{ name: "{self.name}" type: "{self.type}" {bottoms} top: "{self.top}" {self.text} }}\n'

    def message(self) -> bytes:
        """As a caffemodel has it."""
        names = _field(1, self.name.encode()) + _field(2, self.type.encode())
        return _field(100, names + b"".join(_field(7, _blob(blob)) for blob in self.blobs))


def input_dims(shape: Sequence[int]) -> str:
    """The input as the older of Caffe's two forms has it."""
    return 'input: "data"\n' + "".join(f"input_dim: {size}\n" for size in shape)


def input_layer(shape: Sequence[int]) -> str:
    """The input as the newer form has it."""
    sizes = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape: {{ {sizes} }} }} }}\n'


def write_caffe(folder: Path, head: str, layers: Sequence[Layer]) -> None:
    """deploy.prototxt and net.caffemodel."""
    text = 'name: "net"  # as Caffe\'s own begin\n' + head + "".join(layer.prototxt() for layer in layers)
    (folder / "deploy.prototxt").write_text(text)
    weights = _field(1, b"net") + b"".join(layer.message() for layer in layers if layer.blobs)
    (folder / "net.caffemodel").write_bytes(weights)


class Small:
    """Five classes from 3 x 16 x 16, with what the networks of DeepDetect's report consist of."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)

        def draw(*shape: int) -> Array:
            return random.standard_normal(shape, dtype=np.float32)

        self.first = draw(8, 3, 3, 3), draw(8)
        self.mean, self.variance = draw(8), np.abs(draw(8)) + np.float32(0.5)
        self.gamma, self.beta = draw(8), draw(8)
        self.grouped = draw(8, 4, 3, 3) / 4, draw(8)
        self.last = draw(5, 8) / 2, draw(5)

    def layers(self) -> list[Layer]:
        """In Caffe's words."""
        factor = np.full(1, 2.0, np.float32)  # statistics are stored as sums
        return [
            Layer("conv1", "Convolution", ["data"], "conv1",
                  "convolution_param { num_output: 8 kernel_size: 3 pad: 1 }", self.first),
            Layer("norm1", "BatchNorm", ["conv1"], "conv1", "batch_norm_param { use_global_stats: true eps: 1e-5 }",
                  [self.mean * factor, self.variance * factor, factor]),
            Layer("scale1", "Scale", ["conv1"], "conv1", "scale_param { bias_term: true }", [self.gamma, self.beta]),
            Layer("relu1", "ReLU", ["conv1"], "conv1"),
            Layer("lrn1", "LRN", ["conv1"], "lrn1", "lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 }"),
            Layer("pool1", "Pooling", ["lrn1"], "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
            Layer("conv2", "Convolution", ["pool1"], "conv2",
                  "convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2 }", self.grouped),
            Layer("sum", "Eltwise", ["pool1", "conv2"], "sum", "eltwise_param { operation: SUM }"),
            Layer("relu2", "ReLU", ["sum"], "sum"),
            Layer("pool2", "Pooling", ["sum"], "pool2", "pooling_param { pool: AVE global_pooling: true }"),
            Layer("drop", "Dropout", ["pool2"], "pool2", "dropout_param { dropout_ratio: 0.5 }"),
            Layer("fc", "InnerProduct", ["pool2"], "fc", "inner_product_param { num_output: 5 }", self.last),
            Layer("prob", "Softmax", ["fc"], "prob"),
        ]  # fmt: skip

    def answers(self, batch: Array) -> Array:
        """The same by torch."""
        functional, tensor = torch.nn.functional, torch.from_numpy
        x = tensor(batch)
        x = functional.conv2d(x, tensor(self.first[0]), tensor(self.first[1]), padding=1)
        x = (x - _planes(self.mean)) / torch.sqrt(_planes(self.variance) + 1e-5)
        x = (x * _planes(self.gamma) + _planes(self.beta)).relu()
        x = functional.local_response_norm(x, 5, alpha=0.5, beta=0.75, k=1.0)
        x = functional.max_pool2d(x, 3, 2, ceil_mode=True)
        x = (x + functional.conv2d(x, tensor(self.grouped[0]), tensor(self.grouped[1]), padding=1, groups=2)).relu()
        x = functional.linear(x.mean((2, 3)), tensor(self.last[0]), tensor(self.last[1]))
        return x.softmax(1).numpy()


def _planes(values: Array) -> torch.Tensor:
    return torch.from_numpy(values).reshape(1, -1, 1, 1)


class SqueezeNet:
    """torchvision's SqueezeNet 1.1 in Caffe's words; `state` is its state dict."""

    def __init__(self, state: Mapping[str, Array]) -> None:
        self._state = state

    def layers(self) -> list[Layer]:
        """From `data` to `prob`."""
        layers = [*self._convolution("conv1", "data", "features.0", "kernel_size: 3 stride: 2")]
        top = "conv1"
        pooled_before = {3: "pool1", 6: "pool3", 9: "pool5"}
        for number in (3, 4, 6, 7, 9, 10, 11, 12):
            if name := pooled_before.get(number):
                layers.append(
                    Layer(name, "Pooling", [top], name, "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
                )
                top = name
            layers += self._fire(f"fire{number}", top, f"features.{number}")
            top = f"fire{number}"
        layers += self._convolution("conv10", top, "classifier.1", "kernel_size: 1")
        layers.append(
            Layer("pool10", "Pooling", ["conv10"], "pool10", "pooling_param { pool: AVE global_pooling: true }")
        )
        layers.append(Layer("prob", "Softmax", ["pool10"], "prob"))
        return layers

    def _convolution(self, name: str, bottom: str, key: str, sizes: str) -> list[Layer]:
        weight, bias = self._state[f"{key}.weight"], self._state[f"{key}.bias"]
        text = f"convolution_param {{ num_output: {len(bias)} {sizes} }}"
        return [
            Layer(name, "Convolution", [bottom], name, text, [weight, bias]),
            Layer(f"{name}/relu", "ReLU", [name], name),
        ]

    def _fire(self, name: str, bottom: str, key: str) -> list[Layer]:
        squeeze, small, large = f"{name}/squeeze", f"{name}/expand1x1", f"{name}/expand3x3"
        return [
            *self._convolution(squeeze, bottom, f"{key}.squeeze", "kernel_size: 1"),
            *self._convolution(small, squeeze, f"{key}.expand1x1", "kernel_size: 1"),
            *self._convolution(large, squeeze, f"{key}.expand3x3", "kernel_size: 3 pad: 1"),
            Layer(name, "Concat", [small, large], name),
        ]
