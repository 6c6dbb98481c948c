"""Which files make a model that was dropped into a folder without a model.toml, and the engine that each kind is for."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dlmodels.errors import RepositoryError

LABELS = "corresp*.txt"


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of model files. `graph` and `weights` are patterns of names; `graph` is "" where one file holds both."""

    engines: tuple[str, ...]
    """Those that read it; the first is taken where nobody says which."""
    weights: str
    graph: str = ""
    title: str = ""


FORMATS = (
    Format(("torch",), "*.pt", title="TorchScript"),
    Format(("torch",), "*.pt2", title="torch.export"),
    Format(("mxnet",), "*-[0-9][0-9][0-9][0-9].params", "*-symbol.json", title="MXNet"),
    Format(("opencv",), "*.caffemodel", "*.prototxt", title="Caffe"),
    Format(("openvino",), "*.bin", "*.xml", title="OpenVINO IR"),
    Format(("onnxruntime", "openvino", "opencv", "tensorrt"), "*.onnx", title="ONNX"),
    Format(("tensorrt",), "*.engine", title="TensorRT engine"),
)
"""In the order in which they are looked for."""

OWN_PATTERNS = tuple(
    dict.fromkeys(
        [
            "*.safetensors",
            "*.onnx.data",
            LABELS,
            *(name for kind in FORMATS for name in (kind.weights, kind.graph) if name),
        ]
    )
)
"""Names of the files that belong to a model, whatever its engine."""


@dataclass(frozen=True, slots=True)
class Found:
    """Model files of one format in a folder; `graph` is None where the weights file holds the graph too."""

    format: Format
    graph: Path | None
    weights: Path


def find_files(folder: Path, engine: str = "") -> Found | None:
    """The newest files of the first format that the folder holds and that `engine` reads ("": any engine).

    None where there are none. Raises RepositoryError where a format's other half is missing, and nothing else is there.
    """
    half: RepositoryError | None = None
    for kind in _of(engine):
        weights = newest(folder, kind.weights)
        if not kind.graph:
            if weights is not None:
                return Found(kind, None, weights)
            continue
        graph = _graph(folder, kind, weights)
        if weights is not None and graph is not None:
            return Found(kind, graph, weights)
        if weights is not None or (graph is not None and engine):
            there, lacking = (weights, kind.graph) if graph is None else (graph, kind.weights)
            half = half or RepositoryError(
                f"{folder} has {there.name if there else ''} but no {lacking} beside it: a {kind.title} model is both"
            )
    if half is not None:
        raise half
    return None


def readers_of(weights: str) -> tuple[str, ...]:
    """The engines that read a weights file of that name; () where none does by itself."""
    return next((kind.engines for kind in FORMATS if fnmatch(weights, kind.weights)), ())


def expected(engine: str = "") -> str:
    """What `find_files` looks for, for people: "TorchScript (*.pt) or ONNX (*.onnx)"."""
    kinds = [f"{kind.title} ({' + '.join(filter(None, (kind.graph, kind.weights)))})" for kind in _of(engine)]
    return " or ".join(kinds)


def newest(folder: Path, pattern: str) -> Path | None:
    """The file that was changed last, by name among equals; None if nothing matches."""
    found = [path for path in folder.glob(pattern) if path.is_file()]
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def _of(engine: str) -> Iterator[Format]:
    return (kind for kind in FORMATS if not engine or engine in kind.engines)


def _graph(folder: Path, kind: Format, weights: Path | None) -> Path | None:
    """The graph that belongs to the weights: by name if there is such a one, else the newest.

    Of several .prototxt the one for deployment: solvers and training networks lie beside it, as DeepDetect has them.
    """
    if kind.graph == "*.prototxt":
        return newest(folder, "deploy*.prototxt") or newest(folder, "*deploy*.prototxt") or newest(folder, kind.graph)
    if weights is not None:
        stem = weights.stem.rpartition("-")[0] if kind.title == "MXNet" else weights.stem
        own = folder / kind.graph.replace("*", stem)
        if own.is_file():
            return own
    return newest(folder, kind.graph)
