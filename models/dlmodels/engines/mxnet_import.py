"""The one way to mxnet 1.9.1: set up once for the whole process, which its C++ side allows only through the environment."""

import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, ModuleType

import numpy as np

from dlmodels.engines.native_stderr import captured_stderr

NOTICE = re.compile(r"\.\./src/")
"""Marks the lines that mxnet's C++ side prints of its own accord."""

_FORMER_NAMES = MappingProxyType({"bool": bool, "object": object, "int": int, "float": float})
_SETUP = MappingProxyType(
    {
        # Operators run in the thread that calls, one after the other: as quick as through the threads of its other
        # engines, errors come where they are caused, and OpenMP's count of threads is that of the calling thread.
        "MXNET_ENGINE_TYPE": "NaiveEngine",
        # Fusing a linear layer with what follows keeps a second copy of its weights: 0.4 GB of VGG16's, and no time gained.
        "MXNET_DISABLE_MKLDNN_FC_OPT": "1",
        "MXNET_SUBGRAPH_VERBOSE": "0",
    }
)


def import_mxnet() -> ModuleType:
    """mxnet, computing with as many threads as OpenMP gives the calling thread; numpy and the environment stay as they were.

    The names that numpy dropped in 1.24 are needed by the import alone: what is used of mxnet here works without them.
    Raises ImportError or OSError (a library that it needs is not on this machine).
    """
    if (found := sys.modules.get("mxnet")) is not None:
        return found
    # Without the variable, mxnet would set the count of threads of the importing thread, torch's too.
    threads = os.environ.get("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    with _environment(_SETUP | {"OMP_NUM_THREADS": threads}), _former_names(), warnings.catch_warnings():
        # numpy's financial functions, distutils' versions, escapes in strings: all mxnet's own, all from before 2023.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        with captured_stderr(NOTICE):
            mxnet = importlib.import_module("mxnet")
            mxnet.nd.zeros((1,)).wait_to_read()  # the environment is read at the first operator
    return mxnet


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _former_names() -> Iterator[None]:
    missing = [name for name in _FORMER_NAMES if name not in vars(np)]
    for name in missing:
        setattr(np, name, _FORMER_NAMES[name])
    try:
        yield
    finally:
        for name in missing:
            delattr(np, name)
