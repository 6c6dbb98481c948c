"""Where an ONNX model's weights lie: within its file, or beyond 2 GiB, which protobuf cannot hold, in one file beside it."""

from pathlib import Path

import onnx

from dlmodels.conversion.onnx_rewrites import for_every_reader
from dlmodels.engines.onnx_file import read_onnx_file
from dlmodels.errors import ConversionError

MOST_BYTES = (1 << 31) - (1 << 20)
"""Of weights within the file; the graph needs some room too."""
_REWRITTEN = frozenset(("AveragePool", "Identity"))


def write_onnx(
    model: onnx.ModelProto, path: Path, most_bytes: int = MOST_BYTES, *, rewrite: bool = True
) -> tuple[str, ...]:
    """Write a model as `path`, its weights beside it where they are more than `most_bytes`; the names of the files.

    `rewrite`: as every reader understands it (see onnx_rewrites).
    """
    if rewrite:
        for_every_reader(model)
    data = f"{path.name}.data"
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= most_bytes:
        onnx.save_model(model, path)
        return (path.name,)
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=1024
    )
    return path.name, data


def gather(parts: Path, path: Path, most_bytes: int = MOST_BYTES, *, rewrite: bool = True) -> tuple[str, ...]:
    """Bring an exported model, whose weights may lie in many files beside `parts`, to `path`; the names of its files.

    Raises ConversionError where what the exporter has written cannot be read back.
    """
    found = read_onnx_file(parts)
    is_well = not found.data_files and not _REWRITTEN & found.operators and parts.stat().st_size <= most_bytes
    if is_well:
        parts.rename(path)
        return (path.name,)
    try:
        model = onnx.load(parts)
    except (OSError, onnx.checker.ValidationError) as exc:
        raise ConversionError(
            f"the exported model {parts} cannot be read ({exc}): free disk space and try again"
        ) from exc
    return write_onnx(model, path, most_bytes, rewrite=rewrite)
