"""dlclient.bench.inproc: real engines in this process, and what is refused of them."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from dlclient.bench import measuring
from dlclient.bench.inproc import InProcess
from dlclient.bench.job import Budget, Ended, Entered, Event, Job
from dlclient.bench_result import Setting
from dlclient.errors import PointError
from dlmodels.repository import read_model, write_model
from PIL import Image

from tests.models.onnx_files import IMAGE, Net

BUDGET = Budget(warm_up_max_iterations=3, min_iterations=5, max_iterations=5, min_s=0.0, max_s=30.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ONNX network as `dlmodels convert` would have named it, and one whose graph fixes the batch."""
    repository = tmp_path_factory.mktemp("models")
    for name, net in (("net-onnx", Net()), ("pair", Net(batch=2))):
        folder = repository / name
        net.write(folder)
        spec = read_model(folder, engine="onnxruntime", classes=5, image_input=IMAGE)
        write_model(folder, msgspec.structs.replace(spec, name=name))
    return repository


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small pictures, each of one colour."""
    folder = tmp_path_factory.mktemp("pictures")
    for place in range(5):
        Image.new("RGB", (16, 16), (50 * place, 250 - 50 * place, 20)).save(folder / f"{place}.png")
    return folder


def job(models: Path, pictures: Path, engine: str = "onnxruntime", model: str = "net", **setting: object) -> Job:
    made = Setting(model=model, engine=engine, threads=1, **setting)  # type: ignore[arg-type]
    return Job(setting=made, budget=BUDGET, repository=str(models), images=str(pictures))


def refused(job: Job) -> PointError:
    with pytest.raises(PointError) as raised:
        measuring.measure(job, lambda _: None)
    return raised.value


def test_a_real_network_is_measured_stage_by_stage(models: Path, pictures: Path) -> None:
    events: list[Event] = []
    ended = measuring.measure(job(models, pictures, batch_size=3), events.append)
    point = ended.point
    assert [event.stage for event in events if isinstance(event, Entered)] == [
        "start",
        "prepare",
        "load",
        "warm-up",
        "measure",
    ]
    assert (point.iterations, point.images, point.scope, point.simulated) == (5, 15, "model", False)
    assert point.failure is None
    assert point.reasons == ()
    assert (point.read_back["engine"], point.read_back["threads"]) == ("onnxruntime", 1)
    assert point.model_bytes == (models / "net-onnx" / "net.onnx").stat().st_size
    assert point.warming is not None
    assert point.warming.iterations == 3
    assert point.load is not None
    assert None not in (point.load.start_s, point.load.read_s, point.load.prepare_s, point.load.load_s)
    assert point.load.first_run_s is not None
    assert point.load.page_cache == "warm"  # prepared a moment ago
    assert len(ended.samples) == 5


def test_images_can_be_decoded_inside_the_clock(models: Path, pictures: Path) -> None:
    ended = measuring.measure(job(models, pictures, input="image", batch_size=2), lambda _: None)
    assert all(sample.transform_s and sample.transform_s < sample.latency_s for sample in ended.samples)
    assert ended.point.transform_s is not None


def test_both_inputs_and_the_files_themselves_get_the_classes_that_the_network_gives(
    models: Path, pictures: Path
) -> None:
    files = [path.read_bytes() for path in sorted(pictures.iterdir())]
    planes = np.stack(
        [np.asarray(Image.open(path), np.float32)[:, :, ::-1].transpose(2, 0, 1) for path in sorted(pictures.iterdir())]
    )
    expected = Net().answer(planes)
    for way in ("tensor", "image"):
        subject = InProcess(job(models, pictures, input=way))
        subject.start()
        subject.open()
        (batch,) = subject.inputs(5, 1)
        for answer in (subject.classes(batch), subject.classes(files)):
            assert [one[0][0] for one in answer] == list(expected.argmax(axis=1))
            assert [[place for place, _ in one] for one in answer] == np.argsort(-expected, axis=1).tolist()
            assert answer[2][0][1] == pytest.approx(expected[2].max(), abs=1e-5)
        subject.close()


def test_reloads_and_the_first_inference_after_each_are_told_apart(models: Path, pictures: Path) -> None:
    asked = msgspec.structs.replace(job(models, pictures, question="load"), reloads=3)
    load = measuring.measure(asked, lambda _: None).point.load
    assert load is not None
    assert (len(load.reload_s), len(load.first_runs_s)) == (3, 3)
    assert min(*load.reload_s, *load.first_runs_s) > 0


@pytest.mark.skipif(len(__import__("os").sched_getaffinity(0)) < 2, reason="two streams need two cores")
def test_openvino_runs_as_many_batches_at_a_time_as_it_calls_optimal(models: Path, pictures: Path) -> None:
    asked = job(models, pictures, "openvino", question="throughput", in_flight=0, options={"hint": "throughput"})
    asked = msgspec.structs.replace(asked, setting=msgspec.structs.replace(asked.setting, threads=2, batch_size=2))
    point = measuring.measure(asked, lambda _: None).point
    assert point.read_back["in_flight"] == point.read_back["streams"] == 2
    assert point.reasons == ()
    assert point.images == 2 * point.iterations


def test_several_in_flight_overlap_and_each_keeps_its_own_latency() -> None:
    options: dict[str, str | int | float | bool] = {"forward_s": 0.02, "lanes": 4}
    setting = Setting(model="sim", engine="simulated", question="throughput", in_flight=4, options=options)
    budget = msgspec.structs.replace(BUDGET, min_iterations=40, max_iterations=40)
    ended: Ended = measuring.measure(Job(setting=setting, budget=budget), lambda _: None)
    point = ended.point
    assert point.simulated
    assert point.wall_s is not None
    assert point.wall_s < 0.6 * sum(sample.latency_s for sample in ended.samples)
    assert min(sample.latency_s for sample in ended.samples) >= 0.02


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"in_flight": 4, "question": "throughput"}, "unsupported", "runs 1 batch at a time here, not 4"),
        ({"in_flight": 2}, "unsupported", "2 in flight is a question of throughput"),
        ({"engine": "torch"}, "error", "there is no model 'net' in"),
        ({"engine": "simulated", "precision": "fp16"}, "unsupported", "simulated computes in fp32 only, not in fp16"),
        ({"engine": "torchx"}, "unsupported", "there is no engine for mllib 'torchx'"),
        ({"options": {"optimisation": "all"}}, "unsupported", "has a setting 'optimisation', which does not exist"),
        ({"input": "base64"}, "unsupported", "input 'base64' is for servers"),
        ({"device": "cuda:0", "engine": "openvino"}, "unsupported", "openvino computes on cpu only"),
        ({"model": "pair", "batch_size": 3}, "unsupported", "takes at most 2 images at once, not 3"),
        ({"model": "pair", "engine": "torch"}, "unsupported", "dlmodels convert pair --to torchscript"),
        ({"model": "absent"}, "error", "build it with `dlmodels build absent"),
    ],
)
def test_what_cannot_be_measured_says_why(
    models: Path, pictures: Path, more: dict[str, str], kind: str, said: str
) -> None:
    failure = refused(job(models, pictures, **more))
    assert said in str(failure)
    assert failure.kind == kind


def test_out_of_memory_is_told_apart_from_other_failures() -> None:
    setting = Setting(model="sim", engine="simulated", batch_size=3, options={"oom_above": 2})
    assert refused(Job(setting=setting)).kind == "out-of-memory"


@pytest.mark.parametrize(("made", "said"), [(False, "cannot be read"), (True, "has none")])
def test_a_folder_without_images_is_an_error_that_names_it(tmp_path: Path, made: bool, said: str) -> None:
    folder = tmp_path / "pictures"
    if made:
        folder.mkdir()
    failure = refused(Job(setting=Setting(model="sim", engine="simulated"), images=str(folder)))
    assert str(folder) in str(failure)
    assert said in str(failure)
