"""MXNet's networks as ONNX, and ONNX networks as MXNet's."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from dlmodels.conversion.mxnet_import_onnx import import_onnx
from dlmodels.conversion.mxnet_onnx import OPSET, export_onnx
from dlmodels.conversion.photographs import photographs
from dlmodels.conversion.torch_networks import write_onnx_of
from dlmodels.engines import create_engine
from dlmodels.engines.base import Engine
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.errors import ConversionError, LoadError
from dlmodels.repository import ModelSpec, read_model
from dlmodels.zoo.build import build
from onnx import helper

from .mxnet_files import Net, params_file
from .networks import SMALL, pictures

BATCH = pictures(3, (3, 16, 16))
READERS = ("onnxruntime", "openvino", "opencv")


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    started = {name: create_engine(name, "cpu", 1) for name in ("mxnet", *READERS)}
    for engine in started.values():
        engine.start()
    return started


def described(folder: Path, engine: str, **parameters: object) -> ModelSpec:
    spec = read_model(folder, engine=engine, classes=5, image_input=SMALL)
    return msgspec.structs.replace(spec, parameters=parameters)


@pytest.mark.parametrize(
    "net",
    [Net(), Net(softmax=False), Net(data="pixels"), Net(more_outputs=True)],
    ids=["checkpoint", "scores", "other input name", "two outputs"],
)
def test_what_is_exported_answers_alike_in_every_reader_for_any_batch(
    engines: dict[str, Engine], tmp_path: Path, net: Net
) -> None:
    net.write(tmp_path)
    (tmp_path / "onnx").mkdir()
    export_onnx(described(tmp_path, "mxnet"), tmp_path / "onnx" / "model.onnx")
    for reader in READERS:
        model = engines[reader].prepare(described(tmp_path / "onnx", reader))
        model.load()
        for count in (2, 1, 3):
            assert np.abs(model.run(BATCH[:count]) - net.answers(BATCH[:count])).max() < 1e-5, reader
        model.unload()
        assert model.most_images is None


def test_only_the_pictures_are_an_input_and_weights_are_bytes(engines: dict[str, Engine], tmp_path: Path) -> None:
    assert engines["mxnet"]
    Net().write(tmp_path)
    export_onnx(described(tmp_path, "mxnet"), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [tensor.name for tensor in model.graph.input] == ["data"]
    assert [size.dim_param or size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch", 3, 16, 16,
    ]  # fmt: skip
    assert [tensor.name for tensor in model.graph.output] == ["scores"]
    assert model.opset_import[0].version == OPSET
    assert all(tensor.raw_data for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)


def test_a_network_with_shortcuts_answers_alike_in_opencv_while_the_batch_changes(
    engines: dict[str, Engine], tmp_path: Path
) -> None:
    spec = build("gluon-resnet18_v1", tmp_path)
    folder = tmp_path / "converted"
    folder.mkdir()
    export_onnx(spec, folder / "model.onnx")
    batch = photographs(spec.input)
    answers = []
    for name in ("mxnet", "opencv"):
        described_ = spec if name == "mxnet" else read_model(folder, engine=name, classes=1000, image_input=spec.input)
        model = engines[name].prepare(described_)
        model.load()
        answers.append(np.concatenate([model.run(batch[:2]), model.run(batch[2:3]), model.run(batch[3:])]))
        model.unload()
    assert (answers[0].argmax(axis=1) == answers[1].argmax(axis=1)).all()
    assert np.abs(answers[0] - answers[1]).max() < 1e-3


def test_an_operator_that_the_exporter_lacks_is_named(engines: dict[str, Engine], tmp_path: Path) -> None:
    assert engines["mxnet"]
    Net(softmax=False, operator="erfinv").write(tmp_path)
    with pytest.raises(ConversionError, match="has no ONNX for erfinv"):
        export_onnx(described(tmp_path, "mxnet"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_padding_that_is_counted_in_means_is_counted_in_every_reader(
    engines: dict[str, Engine], tmp_path: Path
) -> None:
    mx = import_mxnet().symbol
    blurred = mx.Pooling(mx.var("data"), kernel=(3, 3), pad=(1, 1), stride=(2, 2), pool_type="avg")
    symbol = mx.FullyConnected(blurred, num_hidden=5, name="fc")
    (tmp_path / "net-symbol.json").write_text(symbol.tojson())
    random = np.random.default_rng(0)
    arrays = {
        "fc_weight": random.standard_normal((5, 192), dtype=np.float32) / 16,
        "fc_bias": np.zeros(5, np.float32),
    }
    (tmp_path / "net-0000.params").write_bytes(params_file(arrays))
    export_onnx(described(tmp_path, "mxnet"), tmp_path / "model.onnx")
    answers = []
    for name in ("mxnet", *READERS):
        model = engines[name].prepare(described(tmp_path, name))
        model.load()
        answers.append(model.run(BATCH))
        model.unload()
    assert all(np.abs(answer - answers[0]).max() < 1e-5 for answer in answers)


class Trunk(torch.nn.Module):
    """What torchvision's networks of before 2020 consist of: clipped activations, shortcuts, pooling that rounds up, views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6())
        self.second = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1, groups=4), torch.nn.BatchNorm2d(8))
        self.pool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
        self.blur = torch.nn.AvgPool2d(3, 1, padding=1)
        self.last = torch.nn.Linear(8, 5)
        for part in self.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_var = torch.rand(8) + 0.5
                part.running_mean = torch.randn(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores."""
        red = x[:, 0:1] * 0.5 + 0.1  # as GoogLeNet rearranges its input
        x = self.first(torch.cat([red, x[:, 1:]], 1))
        x = self.blur(self.pool(x + self.second(x)))
        x = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        return self.last(x.reshape(x.shape[0], -1))  # type: ignore[no-any-return]  # torch's modules are called untyped


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_a_network_of_torch_comes_into_mxnet_through_onnx_of_any_age(
    engines: dict[str, Engine], tmp_path: Path, opset: int
) -> None:
    network = Trunk().eval()
    Net().write(tmp_path / "shape")  # only to have a spec of 3 x 16 x 16 and 5 classes
    write_onnx_of(network, described(tmp_path / "shape", "mxnet"), tmp_path / "model.onnx", opset)
    (tmp_path / "imported").mkdir()
    import_onnx(tmp_path / "model.onnx", tmp_path / "imported")
    model = engines["mxnet"].prepare(described(tmp_path / "imported", "mxnet"))
    model.load()
    with torch.inference_mode():
        expected = network(torch.from_numpy(BATCH)).softmax(1).numpy()
    for count in (3, 1, 2):
        assert np.abs(model.run(BATCH[:count]) - expected[:count]).max() < 1e-5


def test_an_operator_that_the_importer_lacks_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "imported").mkdir()
    graph = helper.make_graph(
        [helper.make_node("Erf", ["data"], ["y"]), helper.make_node("HardSwish", ["y"], ["scores"])],
        "net",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 5])],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match="does not know Erf, HardSwish"):
        import_onnx(tmp_path / "model.onnx", tmp_path / "imported")
    assert not list((tmp_path / "imported").iterdir())


def test_a_clip_whose_limit_comes_from_the_picture_is_told(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["data"], ["most"], keepdims=0),
            helper.make_node("Clip", ["data", "", "most"], ["scores"]),
        ],
        "net",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 5])],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), tmp_path / "model.onnx")
    with pytest.raises(ConversionError, match=r"Clip .* has its max computed from the picture"):
        import_onnx(tmp_path / "model.onnx", tmp_path)


def test_what_is_no_onnx_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(LoadError, match="put the file back"):
        import_onnx(path, tmp_path)
    for content in (b"", b"\xffhello", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(LoadError, match=r"model\.onnx"):
            import_onnx(path, tmp_path)
