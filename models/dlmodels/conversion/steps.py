"""One step of a conversion: the files of a model in one format -> in the next. Frameworks are imported by the step."""

from pathlib import Path

import msgspec

from dlmodels.conversion.routes import DEFAULT_OPSET, ENGINES, Target, source_of
from dlmodels.spec import FileFacts, ModelSpec

_STEM = "model"


def write_step(source: ModelSpec, step: Target, folder: Path, opset: int | None, *, for_mxnet: bool) -> ModelSpec:
    """Write the model into `folder` and say what it is there, without labels. Raises ConversionError.

    `opset`: of ONNX from torch; None: a usual one, or with `for_mxnet` one that MXNet's importer knows.
    """
    if step == "openvino":
        return _openvino(source, folder)
    if step == "mxnet":
        return _mxnet(source, folder)
    if source_of(source) == "mxnet":
        from dlmodels.conversion.mxnet_onnx import export_onnx  # noqa: PLC0415  imports mxnet

        export_onnx(source, folder / f"{_STEM}.onnx")
        return _described(source, step, folder, weights=f"{_STEM}.onnx")
    return _from_torch(source, step, folder, opset, for_mxnet=for_mxnet)


def _from_torch(source: ModelSpec, step: Target, folder: Path, opset: int | None, *, for_mxnet: bool) -> ModelSpec:
    from dlmodels.conversion import torch_networks  # noqa: PLC0415  imports torch

    network = torch_networks.network(source)
    if step == "torchscript":
        torch_networks.write_torchscript(network, source, folder / f"{_STEM}.pt")
        return _described(source, step, folder, weights=f"{_STEM}.pt")
    if step == "pt2":
        torch_networks.write_pt2(network, source, folder / f"{_STEM}.pt2")
        return _described(source, step, folder, weights=f"{_STEM}.pt2")
    default = torch_networks.MXNET_OPSET if for_mxnet else DEFAULT_OPSET
    path = folder / f"{_STEM}.onnx"
    names = torch_networks.write_onnx_of(network, source, path, opset or default, rewrite=not for_mxnet)
    return _described(source, step, folder, weights=names[0], more=names[1:])


def _openvino(source: ModelSpec, folder: Path) -> ModelSpec:
    from dlmodels.conversion.openvino_ir import write_openvino  # noqa: PLC0415  imports openvino

    write_openvino(Path(source.folder) / source.weights, folder / f"{_STEM}.xml")
    return _described(source, "openvino", folder, graph=f"{_STEM}.xml", weights=f"{_STEM}.bin")


def _mxnet(source: ModelSpec, folder: Path) -> ModelSpec:
    from dlmodels.conversion.mxnet_import_onnx import import_onnx  # noqa: PLC0415  imports mxnet

    graph, weights = import_onnx(Path(source.folder) / source.weights, folder)
    return _described(source, "mxnet", folder, graph=graph, weights=weights)


def _described(
    source: ModelSpec, step: Target, folder: Path, *, weights: str, graph: str = "", more: tuple[str, ...] = ()
) -> ModelSpec:
    """The model as it is in the new files; of its settings only those remain that the new engine has as well."""
    output = source.parameters.get("output")
    keeps = step == "openvino" and output and source.engine in ("onnxruntime", "openvino", "tensorrt")
    return msgspec.structs.replace(
        source,
        engine=ENGINES[step],
        folder=str(folder),
        architecture="",
        graph=graph,
        weights=weights,
        labels="",
        files=dict.fromkeys(more, FileFacts("", 0)),
        parameters={"output": output} if keeps else {},
    )
