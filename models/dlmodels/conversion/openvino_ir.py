"""ONNX as OpenVINO's own files."""

from pathlib import Path

import openvino

from dlmodels.errors import ConversionError


def write_openvino(onnx: Path, graph: Path) -> None:
    """Write `graph` (`.xml`) and the `.bin` beside it, the weights as they are. Raises ConversionError."""
    try:
        network = openvino.Core().read_model(onnx)
        openvino.save_model(network, graph, compress_to_fp16=False)  # its default halves the weights
    except RuntimeError as exc:
        reason = [line.strip() for line in str(exc).splitlines() if line.strip()][-1:]
        raise ConversionError(
            f"openvino {openvino.__version__} cannot read {onnx} ({''.join(reason)[:300]}): export the network with"
            " another --opset"
        ) from exc
