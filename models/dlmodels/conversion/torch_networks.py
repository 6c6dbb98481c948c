"""torch networks in the formats that torch writes: TorchScript, torch.export, ONNX."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from torch.jit._trace import TracerWarning

from dlmodels.conversion.onnx_weights import gather
from dlmodels.conversion.torch_symbolics import channel_shuffle_as_onnx
from dlmodels.engines.base import Place
from dlmodels.engines.native_stderr import captured_stderr
from dlmodels.engines.safetensors_file import FILTER_DIMENSIONS, read_tensor_file
from dlmodels.engines.torch_export import Pt2Model
from dlmodels.engines.torch_runtime import TorchRuntime
from dlmodels.errors import ConversionError
from dlmodels.spec import ModelSpec
from dlmodels.zoo.skeleton import skeleton

MXNET_OPSET = 11
"""The latest that MXNet 1.9's importer was written for."""
_IMAGES = 2  # a batch of 1 would be taken for a constant
_INPUT, _OUTPUT = "data", "scores"
_ANYTHING = re.compile("")


def network(spec: ModelSpec) -> torch.nn.Module:
    """The network of a model that the torch engine reads. Raises LoadError or ConversionError."""
    if spec.architecture:
        return _zoo_network(spec)
    return _exported_network(spec) if spec.weights.endswith(".pt2") else _script_network(spec)


def _zoo_network(spec: ModelSpec) -> torch.nn.Module:
    """A network of the zoo with its weights, on the CPU. The files are those that an engine has checked."""
    path = Path(spec.folder) / spec.weights
    state = safetensors.torch.load_file(path)
    if read_tensor_file(path).channels_last:
        state = {
            name: tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == FILTER_DIMENSIONS else tensor
            for name, tensor in state.items()
        }
    module = skeleton(spec.architecture, spec.classes)
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(requires_grad=False)


def _script_network(spec: ModelSpec) -> torch.nn.Module:
    """A TorchScript file that an engine has checked."""
    with _quiet():
        module: torch.nn.Module = torch.jit.load(str(Path(spec.folder) / spec.weights), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's
    return module.eval()


def _exported_network(spec: ModelSpec) -> torch.nn.Module:
    """A torch.export file, read as the engine reads it: torch's own reader would unpickle what lies in it."""
    model = TorchRuntime(Place("cpu", torch.get_num_threads())).model(spec)
    assert isinstance(model, Pt2Model)
    model.load()
    network = model.network
    if not isinstance(network, torch.fx.GraphModule):
        raise ConversionError(f"{spec.name!r} is compiled: remove `compile` from its parameters to convert it")
    # Without its hooks, which compare sizes that are no numbers yet while the network is traced.
    return traced(torch.fx.GraphModule(network, network.graph), spec)


def traced(module: torch.nn.Module, spec: ModelSpec) -> torch.jit.ScriptModule:
    """What the network computes for a batch of pictures, as TorchScript."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    with _quiet(), torch.inference_mode():
        script = torch.jit.trace(module, _example(spec), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    assert isinstance(script, torch.jit.ScriptModule)
    return script


def write_torchscript(module: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Trace the network and write it."""
    script = traced(module, spec)
    with _quiet():
        torch.jit.save(script, path)


def write_pt2(module: torch.nn.Module, spec: ModelSpec, path: Path) -> None:
    """Export the network for batches of any size. Raises ConversionError where torch.export cannot follow it."""
    batch = torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            program = torch.export.export(module, (_example(spec),), dynamic_shapes=({0: batch},))
            torch.export.save(program, path)
    except (torch._dynamo.exc.UserError, RuntimeError, ValueError) as exc:  # noqa: SLF001  torch names it nowhere else
        raise ConversionError(
            f"torch.export cannot follow {spec.name!r} ({_first_line(exc)}): convert it to torchscript or onnx"
        ) from exc


def write_onnx_of(
    module: torch.nn.Module, spec: ModelSpec, path: Path, opset: int, *, rewrite: bool = True
) -> tuple[str, ...]:
    """Export the network with a free batch dimension; the names of the files written. `rewrite`: see `write_onnx`.

    By tracing, which took 0.5 s for SqueezeNet 1.1 where torch.export took 5.9 s, with equal answers. Raises
    ConversionError naming the operator that the operator set lacks.
    """
    parts = path.parent / "parts"
    parts.mkdir()
    free = {_INPUT: {0: "batch"}, _OUTPUT: {0: "batch"}}
    try:
        with _quiet(), _silent(), channel_shuffle_as_onnx(), torch.inference_mode():
            torch.onnx.export(
                module,
                (_example(spec),),
                parts / path.name,
                dynamo=False,
                opset_version=opset,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_axes=free,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as exc:
        raise ConversionError(
            f"torch cannot write {spec.name!r} as ONNX with operator set {opset} ({_first_line(exc)}): try a later --opset"
        ) from exc
    files = gather(parts / path.name, path, rewrite=rewrite)
    for left in parts.iterdir():
        left.unlink()
    parts.rmdir()
    return files


def _example(spec: ModelSpec) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn((_IMAGES, *spec.input.shape), generator=draws)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of its older ways of export, and of shapes that a trace makes constant (answers are compared)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit.* is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", r"You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", r"The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", r"no signature found for", UserWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", r"Constant folding", UserWarning)
        yield


@contextmanager
def _silent() -> Iterator[None]:
    """Without the whole graph, which the exporter prints past Python where it fails."""
    torch._C._jit_set_onnx_log_output_stream("stderr")  # noqa: SLF001  there is no other way to it
    with captured_stderr(_ANYTHING):
        yield


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
