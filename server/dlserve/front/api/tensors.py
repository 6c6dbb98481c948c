"""Tensors as the Open Inference Protocol has them on the wire, in JSON and in Triton's binary extension. Pure.

https://github.com/kserve/open-inference-protocol and, beside it, Triton's extension_binary_data and
extension_classification. Of every model the input is the tensor `input`, in one of three forms that its datatype tells
apart, and the output the tensor `probabilities`, FP32 [n, classes]:

UINT8 [n, height, width, channels]  pixels of any size in the network's channel order; the server resizes and normalizes
FP32 [n, channels, height, width]   planes, preprocessed by the client: what the network takes
BYTES [n] or [n, 1]                 image files as they are; in JSON, which has no bytes, as base64

Numbers in JSON may be nested or flat, in row-major order, as the protocol allows.
"""

import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from dlmodels.images import MAX_SIDE, InputSpec

from dlserve.config import Limits
from dlserve.errors import BadJsonError, InputError, RequestError
from dlserve.messages import Item, ItemKind

INPUT = "input"
OUTPUT = "probabilities"
VERSION = "1"
"""The only one of every model."""
HEADER_LENGTH = b"inference-header-content-length"
_LENGTH = struct.Struct("<I")
_KINDS: Mapping[str, ItemKind] = MappingProxyType({"FP32": "planes", "UINT8": "pixels", "BYTES": "bytes"})
Size = Annotated[int, msgspec.Meta(ge=0)]
Buffer = bytes | memoryview


class InputParameters(msgspec.Struct, frozen=True):
    """Of an input tensor; what other servers know beside these is ignored."""

    binary_data_size: Size | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct, frozen=True):
    """One input of a request. Its data is here, or in the binary part of the body."""

    name: str
    shape: tuple[Size, ...]
    datatype: str
    parameters: InputParameters | None = None
    data: msgspec.Raw = msgspec.Raw()

    @property
    def in_json(self) -> bool:
        """Whether its data is here."""
        return bytes(self.data) not in (b"", b"null")

    @property
    def binary_size(self) -> int | None:
        """Its bytes in the binary part; None: its data is in the JSON."""
        return self.parameters.binary_data_size if self.parameters else None


class OutputParameters(msgspec.Struct, frozen=True):
    """Of an output that is asked for."""

    binary_data: bool | None = None
    classification: Annotated[int, msgspec.Meta(ge=1)] | None = None
    shared_memory_region: str | None = None


class OutputTensor(msgspec.Struct, frozen=True):
    """One output that is asked for."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON of an infer request. No outputs: all that there are."""

    inputs: tuple[InputTensor, ...]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: tuple[OutputTensor, ...] | None = None


class Wanted(msgspec.Struct, frozen=True):
    """How the answer's one output is written. `classes`: 0 for the tensor of all, else so many "value:index:label"."""

    binary: bool
    classes: int


_request = msgspec.json.Decoder(InferRequest)
_floats = msgspec.json.Decoder(list[float])
_integers = msgspec.json.Decoder(list[int])
_strings = msgspec.json.Decoder(list[str | list[str]])


def pixel_shape(spec: InputSpec) -> tuple[int, int, int]:
    """(height, width, channels) of an image at the network's size: the form of the input that metadata declare."""
    return spec.height, spec.width, spec.channels


def read_request(body: bytes, header_length: bytes | None, spec: InputSpec) -> tuple[InferRequest, memoryview]:
    """The JSON of a body and the binary part behind it. Raises BadJsonError or InputError.

    A header length of 0 is Triton's raw binary request: the body is the tensor that metadata declare, and nothing else.
    """
    whole = memoryview(body)
    size = len(whole)
    if header_length is not None:
        if not header_length.isdigit() or int(header_length) > size:
            raise InputError(
                f"Inference-Header-Content-Length {header_length[:40].decode('latin-1')!r} is not the size of the JSON in"
                f" this body of {size} bytes: count the bytes of the JSON, without the binary data behind it"
            )
        if int(header_length) == 0:
            return _raw_request(size, spec), whole
        size = int(header_length)
    try:
        return _request.decode(whole[:size]), whole[size:]
    except msgspec.ValidationError as exc:
        raise InputError(f"this is no inference request: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadJsonError(
            f"the body is not JSON: {exc}; for binary data give the JSON's size as Inference-Header-Content-Length"
        ) from exc


def _raw_request(size: int, spec: InputSpec) -> InferRequest:
    shape = pixel_shape(spec)
    tensor = InputTensor(INPUT, (size // math.prod(shape), *shape), "UINT8", InputParameters(size))
    return InferRequest((tensor,), parameters={"binary_data_output": True})


def read_items(
    request: InferRequest, binary: memoryview, spec: InputSpec, limits: Limits
) -> tuple[tuple[Item, ...], Sequence[Buffer]]:
    """Items, one per image, and their bytes. Raises InputError naming what is wrong and what would be right."""
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        names = ", ".join(repr(tensor.name)[:80] for tensor in request.inputs[:8]) or "none"
        raise InputError(f"the model has one input, {INPUT!r}, and the request has {names}: send that one tensor")
    tensor = request.inputs[0]
    if tensor.parameters and tensor.parameters.shared_memory_region is not None:
        raise RequestError("shared memory is not supported: send the tensor's data in the body")
    shape = _image_shape(tensor, spec, limits)
    size = tensor.binary_size
    if (size or 0) != len(binary):
        raise InputError(
            f"the body has {len(binary)} bytes behind its JSON, and binary_data_size says {size}: send all of the binary"
            " data, and its size"
        )
    if size is not None and tensor.in_json:
        raise InputError(f"{INPUT} has both data and binary_data_size: send one of them")
    if size is None and not tensor.in_json:
        raise InputError(f"{INPUT} has neither data nor binary_data_size: send one of them")
    if tensor.datatype == "BYTES":
        return _files(tensor, binary) if size is not None else _base64(tensor)
    data = binary if size is not None else memoryview(_numbers(tensor))
    return _images(tensor, data, shape)


def _image_shape(tensor: InputTensor, spec: InputSpec, limits: Limits) -> tuple[int, ...]:
    """The shape of one image of the tensor, () of files; checked, as is their number."""
    count, *shape = tensor.shape or (0,)
    form, right = "", False
    if tensor.datatype == "FP32":
        form, right = f"[n, {spec.channels}, {spec.height}, {spec.width}]", tuple(shape) == spec.shape
    elif tensor.datatype == "UINT8":
        form = f"[n, height, width, {spec.channels}]"
        right = len(shape) == 3 and shape[2] == spec.channels and all(1 <= side <= MAX_SIDE for side in shape[:2])
        if right and shape[0] * shape[1] > limits.pixels:
            raise InputError(f"{shape[1]} x {shape[0]} pixels, at most {limits.pixels} are taken: see --max-pixels")
    elif tensor.datatype == "BYTES":
        form, right = "[n]", shape in ([], [1])
    else:
        raise InputError(f"{INPUT} has datatype {tensor.datatype!r:.40}: send one of {', '.join(_KINDS)}")
    if not right or count < 1:
        raise InputError(
            f"{INPUT} has shape {list(tensor.shape)!s:.80}: as {tensor.datatype} it must be {form}, n >= 1"
        )
    if count > limits.images:
        raise InputError(f"{count} images: send at most {limits.images} in one call, or raise --max-images")
    return () if tensor.datatype == "BYTES" else tuple(shape)


def _images(tensor: InputTensor, data: memoryview, shape: tuple[int, ...]) -> tuple[tuple[Item, ...], Sequence[Buffer]]:
    count = tensor.shape[0]
    size = math.prod(shape) * (4 if tensor.datatype == "FP32" else 1)
    if len(data) != count * size:
        raise InputError(
            f"{INPUT} has {len(data)} bytes of data, and {tensor.datatype} {list(tensor.shape)} takes {count * size}"
        )
    kind = _KINDS[tensor.datatype]
    return tuple(Item(kind, size, str(place), shape) for place in range(count)), (data,)


def _numbers(tensor: InputTensor) -> bytes:
    """Numbers in JSON, flat or nested, as little-endian bytes."""
    text = bytes(tensor.data)
    # In the JSON of nothing but numbers, brackets mean nothing but nesting.
    flat = b"[" + text.translate(None, b"[]") + b"]" if text.startswith(b"[") else text
    try:
        if tensor.datatype == "UINT8":
            return bytes(_integers.decode(flat))
        return array("f", _floats.decode(flat)).tobytes()
    except (ValueError, OverflowError) as exc:  # msgspec's errors are ValueErrors too
        what = "whole numbers of 0 to 255" if tensor.datatype == "UINT8" else "numbers"
        raise InputError(f"the data of {INPUT} must be a list of {what}: {exc}") from exc


def _files(tensor: InputTensor, binary: memoryview) -> tuple[tuple[Item, ...], Sequence[Buffer]]:
    """Elements of a binary BYTES tensor: each its length in 4 bytes, little-endian, then its bytes."""
    files: list[memoryview] = []
    at = 0
    for _ in range(tensor.shape[0]):
        end = at + _LENGTH.size
        if end <= len(binary):
            end += _LENGTH.unpack_from(binary, at)[0]
        if end > len(binary):
            raise InputError(
                f"element {len(files)} of {INPUT} goes beyond its binary data: write each element's length in 4 bytes,"
                " little-endian, then its bytes"
            )
        files.append(binary[at + _LENGTH.size : end])
        at = end
    if at != len(binary):
        raise InputError(f"{INPUT} has {len(binary) - at} bytes of binary data behind its {len(files)} elements")
    return tuple(Item("bytes", len(file), str(place)) for place, file in enumerate(files)), files


def _base64(tensor: InputTensor) -> tuple[tuple[Item, ...], Sequence[Buffer]]:
    try:
        nested = _strings.decode(tensor.data)
        texts = [text for element in nested for text in ([element] if isinstance(element, str) else element)]
        files = [text.encode("ascii") for text in texts]
    except (msgspec.DecodeError, UnicodeEncodeError) as exc:
        raise InputError(f"the data of {INPUT} must be a list of strings, image files as base64: {exc}") from exc
    if len(files) != tensor.shape[0]:
        raise InputError(f"{INPUT} has {len(files)} elements, and its shape says {tensor.shape[0]}")
    return tuple(Item("base64", len(file), str(place)) for place, file in enumerate(files)), files


def read_outputs(request: InferRequest, classes: int) -> Wanted:
    """How the model's one output is wanted, by default as JSON and whole. Raises RequestError."""
    binary = (request.parameters or {}).get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise RequestError(f"parameters.binary_data_output must be true or false, not {binary!r:.80}")
    if not request.outputs:
        return Wanted(binary, 0)
    if len(request.outputs) != 1 or request.outputs[0].name != OUTPUT:
        names = ", ".join(repr(output.name)[:80] for output in request.outputs[:8])
        raise RequestError(
            f"the model has one output, {OUTPUT!r}, and {names} is asked for: ask for it, once, or for none"
        )
    asked = request.outputs[0].parameters or OutputParameters()
    if asked.shared_memory_region is not None:
        raise RequestError("shared memory is not supported: the output comes in the body")
    if asked.binary_data is not None:
        binary = asked.binary_data
    return Wanted(binary, min(asked.classification or 0, classes))


def write_output(
    wanted: Wanted, rows: bytes, predictions: Sequence[Sequence[tuple[int, float]]], labels: Sequence[str]
) -> tuple[dict[str, object], bytes]:
    """The output's JSON, and its binary data (b"" where its data is in the JSON)."""
    count = len(predictions)
    if wanted.classes:
        texts = [_classification(*one, labels) for classes in predictions for one in classes]
        head: dict[str, object] = {"name": OUTPUT, "datatype": "BYTES", "shape": [count, wanted.classes]}
        if not wanted.binary:
            return head | {"data": texts}, b""
        encoded = [text.encode() for text in texts]
        binary = b"".join(piece for text in encoded for piece in (_LENGTH.pack(len(text)), text))
    else:
        head = {"name": OUTPUT, "datatype": "FP32", "shape": [count, len(rows) // (4 * count)]}
        if not wanted.binary:
            return head | {"data": array("f", rows).tolist()}, b""
        binary = rows
    return head | {"parameters": {"binary_data_size": len(binary)}}, binary


def _classification(index: int, probability: float, labels: Sequence[str]) -> str:
    """Triton's "value:index[:label]"; 9 digits tell any two float32 apart."""
    label = labels[index] if labels else ""
    return f"{probability:.9g}:{index}:{label}" if label else f"{probability:.9g}:{index}"
