"""The name of the file that an engine built by TensorRT is kept in: another one for everything that would change it."""

import hashlib
from pathlib import Path

from dlmodels.engines.file_stamp import stamp
from dlmodels.engines.tensorrt import TensorRtSettings
from dlmodels.integrity import inside
from dlmodels.spec import ModelSpec

DEFAULT_MAX_BATCH = 32


def plan_name(spec: ModelSpec, settings: TensorRtSettings, gpu: str, version: str) -> str:
    """`<model>-<fingerprint>.engine`, of the model's files, the settings, the GPU and TensorRT's version.

    Raises LoadError if a file of the model is missing.
    """
    files = {}
    for name, facts in sorted(spec.files.items()):
        if name != spec.labels:
            found = stamp(inside(Path(spec.folder), name))
            files[name] = facts.sha256 or f"{found.bytes} {found.modified_ns}"
    shape = (
        settings.datatype or "fp32",
        settings.workspace_mb,
        settings.max_batch or DEFAULT_MAX_BATCH,
        spec.input.shape,
    )
    text = repr((files, shape, gpu, version))
    return f"{spec.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.engine"
