"""TensorRT 10 in this process: engines, built from ONNX files or saved, and what they answer.

torch brings what TensorRT lacks: device memory and streams. Written from NVIDIA's documentation of the Python API.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorrt
import torch
from numpy.typing import NDArray

from dlmodels.engines.base import Memory, Place
from dlmodels.engines.file_stamp import stamp
from dlmodels.engines.graph_input import TensorInfo, image_input, scores_output
from dlmodels.engines.graph_model import GraphModel
from dlmodels.engines.onnx_file import read_onnx_file, with_data_files
from dlmodels.engines.tensorrt import TensorRtSettings
from dlmodels.engines.tensorrt_plan import DEFAULT_MAX_BATCH, plan_name
from dlmodels.errors import (
    EngineUnavailableError,
    ForwardError,
    LoadError,
    OutOfMemoryError,
    RepositoryError,
    SettingError,
)
from dlmodels.spec import CACHE_FOLDER, ModelSpec

_FLAGS = {"fp16": "FP16", "bf16": "BF16", "tf32": "TF32"}


class TensorRtRuntime:
    """One GPU of this process, awake."""

    def __init__(self, place: Place) -> None:
        self.device = torch.device(place.device)
        count = torch.cuda.device_count()
        if self.device.index is None or self.device.index >= count:
            raise EngineUnavailableError(f"there is no device {place.device!r} here: torch sees {count} GPUs")
        torch.cuda.set_device(self.device)
        self.logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        self.runtime = tensorrt.Runtime(self.logger)

    def model(self, spec: ModelSpec, settings: TensorRtSettings) -> "TensorRtModel":
        """The prepared model. Raises LoadError, RepositoryError or OutOfMemoryError."""
        plan = Path(spec.folder) / spec.weights
        if plan.suffix == ".onnx":
            file = read_onnx_file(plan)
            spec = with_data_files(spec, file)
            pictures = image_input(file.inputs, spec, str(plan))
            if pictures.batch is not None and settings.max_batch is not None:
                raise SettingError(
                    f"model {spec.name!r}: its graph takes batches of {pictures.batch} only: leave max_batch out, or export the"
                    " network with a free batch dimension"
                )
            plan = self._built(spec, settings, pictures.name)
        model = TensorRtModel(spec, self, plan, settings)
        model.try_out()
        return model

    def memory(self) -> Memory:
        """The GPU's."""
        free, total = torch.cuda.mem_get_info(self.device)
        return Memory(total, free)

    def _built(self, spec: ModelSpec, settings: TensorRtSettings, input_name: str) -> Path:
        """The file of the engine for this GPU, which is built if it is not there yet."""
        gpu = torch.cuda.get_device_name(self.device)
        plan = Path(spec.folder) / CACHE_FOLDER / plan_name(spec, settings, gpu, tensorrt.__version__)
        if plan.is_file():
            return plan
        content = self._build(spec, settings, input_name)
        unfinished = plan.with_name(f".{plan.name}.{os.getpid()}")
        try:
            plan.parent.mkdir(exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.rename(plan)
        except OSError as exc:
            unfinished.unlink(missing_ok=True)
            raise RepositoryError(
                f"the engine of {spec.name!r} cannot be kept as {plan} ({exc.strerror}): make the folder writable, or serve a"
                " saved *.engine"
            ) from exc
        return plan

    def _build(self, spec: ModelSpec, settings: TensorRtSettings, input_name: str) -> bytes:
        path = Path(spec.folder) / spec.weights
        builder = tensorrt.Builder(self.logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, self.logger)
        if not parser.parse_from_file(str(path)):
            said = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise LoadError(f"{path} cannot be read by TensorRT {tensorrt.__version__} ({said}): export it again")
        configuration = builder.create_builder_config()
        configuration.clear_flag(tensorrt.BuilderFlag.TF32)  # on by default, and a result says float32
        if settings.datatype in _FLAGS:
            configuration.set_flag(getattr(tensorrt.BuilderFlag, _FLAGS[settings.datatype]))
        if settings.workspace_mb:
            configuration.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, settings.workspace_mb << 20)
        self._add_profile(builder, configuration, network.get_input(0).shape, spec, settings, input_name)
        plan = builder.build_serialized_network(network, configuration)
        if plan is None:
            raise LoadError(f"TensorRT {tensorrt.__version__} cannot build an engine from {path}: its log says why")
        return bytes(plan)

    @staticmethod
    def _add_profile(
        builder: tensorrt.Builder,
        configuration: tensorrt.IBuilderConfig,
        shape: tuple[int, ...],
        spec: ModelSpec,
        settings: TensorRtSettings,
        input_name: str,
    ) -> None:
        """Sizes of what the graph leaves open: batches of 1 to `max_batch`."""
        if -1 not in tuple(shape):
            return
        channels, height, width = spec.input.shape
        image = (channels, height, width) if shape[1] in (-1, channels) else (height, width, channels)
        most = settings.max_batch or DEFAULT_MAX_BATCH
        profile = builder.create_optimization_profile()
        profile.set_shape(input_name, (1, *image), (1, *image), (most, *image))
        configuration.add_optimization_profile(profile)


class TensorRtModel(GraphModel):
    """An engine that is read anew at each load."""

    def __init__(self, spec: ModelSpec, owner: TensorRtRuntime, plan: Path, settings: TensorRtSettings) -> None:
        super().__init__(spec)
        self._owner = owner
        self._plan = plan
        self._plan_stamp = stamp(plan)
        self._asked = settings
        self._engine: tensorrt.ICudaEngine | None = None
        self._context: tensorrt.IExecutionContext | None = None
        self._scores = ""

    @property
    def weights_bytes(self) -> int:
        """Size of the engine's file."""
        return self._plan_stamp.bytes

    @property
    def settings(self) -> Mapping[str, object]:
        """What the engine was built with."""
        return {"datatype": self._asked.datatype or "fp32", "most_images": self.most_images}

    def _open(self) -> None:
        if stamp(self._plan) != self._plan_stamp:
            raise LoadError(f"{self._plan} has changed since it was checked: create its service again or restart")
        if self.weights_bytes > self._owner.memory().free_bytes:
            raise OutOfMemoryError(f"{self._owner.device} has no room for {self._plan}: unload another model")
        engine = self._owner.runtime.deserialize_cuda_engine(self._plan.read_bytes())
        if engine is None:
            raise LoadError(
                f"{self._plan} is no engine for this GPU and TensorRT {tensorrt.__version__}, or damaged: delete it, so"
                " that it is built again from the *.onnx"
            )
        self._engine, self._context = engine, engine.create_execution_context()
        self._describe(engine)

    def _describe(self, engine: tensorrt.ICudaEngine) -> None:
        inputs: list[TensorInfo] = []
        outputs: list[TensorInfo] = []
        for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
            is_input = engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT
            shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
            dtype = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name))).name
            (inputs if is_input else outputs).append(TensorInfo(name, dtype, shape))
        self._input = image_input(inputs, self.spec, str(self._plan))
        self._scores = scores_output(outputs, self.spec, self._asked.output, str(self._plan))
        self.most_images = self._input.batch
        if self.most_images is None:
            self.most_images = int(engine.get_tensor_profile_shape(self._input.name, 0)[2][0])

    def _close(self) -> None:
        self._context = self._engine = None

    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        context, engine = self._context, self._engine
        assert context is not None
        assert engine is not None
        try:
            with torch.cuda.device(self._owner.device):
                arranged = torch.from_numpy(self._input.arrange(images)).to(self._owner.device)
                context.set_input_shape(self._input.name, tuple(arranged.shape))
                context.set_tensor_address(self._input.name, arranged.data_ptr())
                outputs = {}
                for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
                    if name != self._input.name:
                        dtype = torch.from_numpy(np.empty(0, tensorrt.nptype(engine.get_tensor_dtype(name)))).dtype
                        outputs[name] = torch.empty(
                            tuple(context.get_tensor_shape(name)), dtype=dtype, device=self._owner.device
                        )
                        context.set_tensor_address(name, outputs[name].data_ptr())
                stream = torch.cuda.current_stream()
                if not context.execute_async_v3(stream.cuda_stream):
                    raise ForwardError(
                        f"{self.spec.name!r} failed on a batch of {len(images)}: TensorRT's log says why"
                    )
                answer: NDArray[np.float32] = outputs[self._scores].cpu().numpy()
        except torch.OutOfMemoryError as exc:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(
                f"{self.spec.name!r}: no memory for a batch of {len(images)} on {self._owner.device}: send fewer images"
            ) from exc
        return answer[: len(images)]
