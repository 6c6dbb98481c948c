"""Which folder of a repository holds a model for an engine."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from dlmodels.engines import canonical_engine, engine_type
from dlmodels.errors import RepositoryError, SettingError
from dlmodels.repository import MODEL_FILE, ModelSpec, read_model

from dlclient.bench_result import Setting
from dlclient.errors import PointError

_MADE_FOR = {
    "torch": ("torchscript", "pt2"),
    "onnxruntime": ("onnx",),
    "openvino": ("openvino", "onnx"),
    "opencv": ("onnx",),
    "tensorrt": ("onnx",),
    "mxnet": ("mxnet",),
}
"""Engine -> what `dlmodels convert` adds to the name of a folder that it can read, the best first."""


def find_model(setting: Setting, repository: str) -> ModelSpec:
    """The model with the setting's options and precision as its parameters.

    The folder of the model's name if the engine reads it, else one that `dlmodels convert` made of it (`MODEL-onnx`). A simulated
    model needs none. Raises PointError, and dlmodels' UnknownEngineError, RepositoryError or SettingError.
    """
    engine = canonical_engine(setting.engine) if setting.engine else ""
    if engine == "simulated" and not (Path(repository) / setting.model).is_dir():
        spec = ModelSpec(name=setting.model, engine=engine)
    else:
        spec = _read(setting.model, engine, Path(repository))
    parameters = {**spec.parameters, **setting.options, **_precision(setting, spec.engine)}
    return msgspec.structs.replace(spec, parameters=parameters)


def _read(model: str, engine: str, repository: Path) -> ModelSpec:
    refused: RepositoryError | None = None
    for folder in _candidates(model, engine, repository):
        try:
            return read_model(folder, engine=engine)
        except RepositoryError as exc:
            if not engine or not (folder / MODEL_FILE).exists():
                raise
            refused = refused or exc
    if refused is not None:
        target = _MADE_FOR.get(engine, ("onnx",))[0]
        raise PointError(
            f"{refused}; for this, `dlmodels convert {model} --to {target} --repository {repository}`",
            kind="unsupported",
        )
    raise PointError(
        f"there is no model {model!r} in {repository}: build it with `dlmodels build {model} --repository {repository}`, or"
        " correct `repository`",
        kind="error",
    )


def _candidates(model: str, engine: str, repository: Path) -> Iterator[Path]:
    for name in (model, *(f"{model}-{made}" for made in _MADE_FOR.get(engine, ()))):
        if (repository / name).is_dir():
            yield repository / name


def _precision(setting: Setting, engine: str) -> dict[str, str]:
    """The precision as the engine's own parameter. One that cannot be told computes in fp32 and takes that for granted."""
    if not setting.precision:
        return {}
    if "datatype" in engine_type(engine).settings_type.__struct_fields__:
        return {"datatype": setting.precision}
    if setting.precision != "fp32":
        raise SettingError(
            f"{engine} computes in fp32 only, not in {setting.precision}: leave `precision` out, or use another engine"
        )
    return {}
