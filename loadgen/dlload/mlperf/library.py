"""The one place that imports MLPerf's LoadGen. It carries no types, so what comes from it is Any."""

import importlib
from typing import Any

from dlload.errors import LoadGenError


def load_generator() -> Any:
    """The module `mlperf_loadgen` (distribution mlcommons-loadgen). Raises LoadGenError."""
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError as exc:
        raise LoadGenError(
            f"MLPerf's LoadGen cannot be imported ({exc}); install dlserve with its extra: pip install 'dlserve[mlperf]'"
        ) from exc
