"""The files of a Gluon network's model folder: its symbol, seeded random parameters, corresp.txt.

The parameters are drawn as zoo/random_weights.py draws those of torch's networks, and for the same reason: with Gluon's own
initialization the answers of deep networks do not depend on the picture.
"""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.errors import EngineUnavailableError
from dlmodels.images import InputSpec
from dlmodels.labels import write_labels
from dlmodels.spec import ModelSpec
from dlmodels.zoo.cards.gluon_networks import gluon_name
from dlmodels.zoo.catalog import CLASSES
from dlmodels.zoo.draws import BRANCH_SCALE, SCORE_DEVIATION, draw_filters, draw_noise, power_of_two
from dlmodels.zoo.network import Network

LABELS_FILE = "corresp.txt"
_ADDITIONS = ("elemwise_add", "broadcast_add", "_Plus", "_plus")
_PICTURES = "data"
_ANY_WEIGHTS = ("resnet50", "IMAGENET1K_V1")  # all of torchvision's carry the same 1000 categories, Gluon's carry none


def build_gluon(network: Network, folder: Path, seed: int) -> ModelSpec:
    """Write them; what model.toml is to say. Equal seeds give equal files.

    Raises EngineUnavailableError (no mxnet on this machine) or OSError.
    """
    mxnet_or_unavailable()
    block, symbol = gluon_network(gluon_name(network))
    _fill(block, symbol, network.input, np.random.Generator(np.random.PCG64(seed)))
    graph, weights = f"{network.name}-symbol.json", f"{network.name}-0000.params"
    _write(block, symbol, folder / graph, folder / weights)
    del block, symbol
    gc.collect()  # blocks refer to themselves: of many networks that are built in turn, all would be in memory
    write_labels(folder / LABELS_FILE, _categories())
    return ModelSpec(
        name=network.name,
        engine="mxnet",
        graph=graph,
        weights=weights,
        classes=CLASSES,
        input=network.input,
        labels=LABELS_FILE,
    )


def mxnet_or_unavailable() -> Any:
    """mxnet. Raises EngineUnavailableError saying what is missing."""
    from dlmodels.engines.mxnet import MxnetEngine  # noqa: PLC0415  the engine knows where mxnet works

    if reason := MxnetEngine.missing("cpu"):
        raise EngineUnavailableError(reason)
    try:
        return import_mxnet()
    except (ImportError, OSError) as exc:
        raise EngineUnavailableError(
            f"mxnet cannot be imported ({exc}): install it with `make install`, and the system's package libgomp1"
        ) from exc


def gluon_network(name: str) -> tuple[Any, Any]:
    """A network of `mxnet.gluon.model_zoo.vision` without weights, and its symbol; all is named alike each time."""
    mxnet = import_mxnet()
    with mxnet.name.NameManager():
        block = mxnet.gluon.model_zoo.vision.get_model(name, classes=CLASSES, prefix="")
        return block, block(mxnet.symbol.var(_PICTURES))


def _fill(block: Any, symbol: Any, spec: InputSpec, random: np.random.Generator) -> None:
    """Give every parameter and statistic a content."""
    mxnet = import_mxnet()
    arguments, _outputs, states = symbol.infer_shape(**{_PICTURES: (1, *spec.shape)})
    shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    shapes |= dict(zip(symbol.list_auxiliary_states(), states, strict=True))
    last = None
    block.collect_params().setattr("grad_req", "null")  # gradients would take as much memory again
    for parameter in block.collect_params().values():
        parameter.shape = shapes[parameter.name]
        parameter.initialize(mxnet.init.One() if _is_one(parameter.name) else mxnet.init.Zero())
        if parameter.name.endswith("_weight"):
            last = parameter
            parameter.set_data(mxnet.nd.from_numpy(draw_filters(tuple(parameter.shape), random)))
    assert last is not None
    for name in _branch_ends(symbol):
        end = block.collect_params()[name]
        end.set_data(end.data() * BRANCH_SCALE)
    with _adapting_statistics(block):
        scores = block(mxnet.nd.from_numpy(draw_noise(spec, random))).asnumpy()
    last.set_data(last.data() * power_of_two(SCORE_DEVIATION / float(scores.std(dtype=np.float64))))


def _branch_ends(symbol: Any) -> Iterator[str]:
    """The scale (of a normalization) or the filters with which the branches of a residual network end."""
    nodes = json.loads(symbol.tojson())["nodes"]
    depths: list[int] = []
    for node in nodes:
        sources = [source[0] for source in node["inputs"]]
        depths.append(max((depths[source] for source in sources), default=0) + (node["op"] == "Convolution"))
        if node["op"] in _ADDITIONS:
            shortcut, branch = sorted(sources, key=lambda source: depths[source])
            if depths[branch] > depths[shortcut] and nodes[branch]["op"] in ("BatchNorm", "Convolution"):
                yield nodes[nodes[branch]["inputs"][1][0]]["name"]


def _is_one(name: str) -> bool:
    return name.endswith(("_gamma", "_running_var"))


@contextlib.contextmanager
def _adapting_statistics(block: Any) -> Iterator[None]:
    """Within it, each normalization takes the variance of what first flows into it."""
    mxnet = import_mxnet()

    def adapt(part: Any, inputs: tuple[Any, ...]) -> None:
        deviation = power_of_two(float(inputs[0].asnumpy().std(dtype=np.float64)))
        part.running_var.set_data(mxnet.nd.full(part.running_var.shape, deviation**2))

    handles: list[Any] = []
    block.apply(
        lambda part: (
            handles.append(part.register_forward_pre_hook(adapt))
            if isinstance(part, mxnet.gluon.nn.BatchNorm)
            else None
        )
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.detach()


def _write(block: Any, symbol: Any, graph: Path, weights: Path) -> None:
    """As Gluon's `export` does, under our names."""
    mxnet = import_mxnet()
    parameters = block.collect_params()
    kinds = dict.fromkeys(symbol.list_arguments(), "arg") | dict.fromkeys(symbol.list_auxiliary_states(), "aux")
    stored = {f"{kinds[name]}:{name}": parameters[name].data() for name in symbol.list_inputs() if name != _PICTURES}
    graph.write_text(symbol.tojson(), "utf-8")
    try:
        mxnet.nd.save(str(weights), stored)
    except mxnet.MXNetError as exc:
        raise OSError(f"mxnet could not write {weights}") from exc


def _categories() -> list[str]:
    import torchvision  # noqa: PLC0415  seconds, and only its list of names is wanted

    name, trained = _ANY_WEIGHTS
    categories: list[str] = torchvision.models.get_model_weights(name)[trained].meta["categories"]
    return categories
