"""Model folders of Gluon's networks."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from dlmodels.conversion.photographs import photographs
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.mxnet import MxnetEngine
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.engines.mxnet_params import read_params
from dlmodels.repository import ModelSpec
from dlmodels.zoo.build import build
from dlmodels.zoo.catalog import find
from dlmodels.zoo.gluon import build_gluon, gluon_network

SMALL = ("gluon-squeezenet1.1", "gluon-mobilenetv2_0.25", "gluon-resnet18_v1")
"""Without normalization, with separable convolutions, with shortcuts."""


@pytest.fixture(scope="module")
def mxnet() -> Engine:
    started = MxnetEngine(Place("cpu", 1))
    started.start()
    return started


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """The small networks, built as people build them."""
    folder = tmp_path_factory.mktemp("gluon")
    return {name: build(name, folder, seed=3) for name in SMALL}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_holds_what_the_card_says(built: dict[str, ModelSpec], name: str) -> None:
    spec, network = built[name], find(name)
    folder = Path(spec.folder)
    assert (spec.engine, spec.architecture, spec.classes) == ("mxnet", "", 1000)
    assert spec.input == network.input
    assert set(spec.files) == {f"{name}-symbol.json", f"{name}-0000.params", "corresp.txt"}
    assert sum(place.bytes for place in read_params(folder / spec.weights).values()) == network.bytes
    assert len((folder / "corresp.txt").read_text("utf-8").splitlines()) == 1000


@pytest.mark.parametrize("name", SMALL[1:])
def test_equal_seeds_give_equal_files_and_others_do_not(built: dict[str, ModelSpec], tmp_path: Path, name: str) -> None:
    for folder, seed in (("again", 3), ("other", 4)):
        (tmp_path / folder).mkdir()
        build_gluon(find(name), tmp_path / folder, seed)
    first = digests(Path(built[name].folder))
    first.pop("model.toml")
    again, other = digests(tmp_path / "again"), digests(tmp_path / "other")
    assert again == first
    assert [file for file in other if other[file] != first[file]] == [built[name].weights]


@pytest.mark.parametrize("name", SMALL)
def test_answers_depend_on_the_picture_and_no_class_has_it_all(
    mxnet: Engine, built: dict[str, ModelSpec], name: str
) -> None:
    model = mxnet.prepare(built[name])
    model.load()
    answers = model.run(photographs(built[name].input))
    model.unload()
    assert len(set(answers.argmax(axis=1))) >= 3
    entropy = -(answers * np.log(np.maximum(answers, 1e-30))).sum(axis=1)
    assert np.median(entropy) > 0.5  # bits of doubt: one certain class has 0, a thousand equal ones 6.9
    assert np.median(entropy) < 6.7


def test_the_engine_answers_as_gluon_itself_does(mxnet: Engine, built: dict[str, ModelSpec]) -> None:
    mx = import_mxnet()
    spec = built["gluon-resnet18_v1"]
    block, _symbol = gluon_network("resnet18_v1")
    stored = mx.nd.load(str(Path(spec.folder) / spec.weights))
    for name, array in stored.items():
        parameter = block.collect_params()[name.partition(":")[2]]
        parameter.shape = array.shape
        parameter.initialize(mx.init.Zero())
        parameter.set_data(array)
    batch = photographs(spec.input)
    scores = block(mx.nd.from_numpy(batch.copy())).asnumpy().astype(np.float64)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    model = mxnet.prepare(spec)
    model.load()
    assert np.abs(model.run(batch) - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-4
    model.unload()


@pytest.mark.parametrize("name", ["gluon-resnet18_v1"])
def test_rounding_errors_do_not_grow_from_block_to_block(mxnet: Engine, built: dict[str, ModelSpec], name: str) -> None:
    spec = built[name]
    model = mxnet.prepare(spec)
    model.load()
    batch = photographs(spec.input)
    noise = np.random.default_rng(0).standard_normal(batch.shape).astype(np.float32)
    exact, disturbed = (np.log(model.run(batch * factor)) for factor in (np.float32(1), 1 + noise * np.float32(1e-5)))
    model.unload()
    assert np.abs(exact - disturbed).std() < 3 * 1e-5 * exact.std()
