"""dlclient.bench.accuracy, where the truth is known by construction."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dlclient.bench.accuracy import measure
from dlclient.bench.job import Entered, Event, Job, Progress
from dlclient.bench_result import Point, Scope, Setting
from dlclient.errors import PointError
from dlmodels.engines import create_engine
from dlmodels.errors import ImageError
from dlmodels.images import InputSpec, decode
from dlmodels.labels import write_labels
from dlmodels.spec import ModelSpec
from PIL import Image

COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250), (250, 10, 250), (130, 130, 130))
NAMES = ("red", "green", "blue", "yellow", "cyan", "magenta", "grey")


class MeanColour:
    """A classifier that is right by construction: the classes in the order of their distance to an image's mean colour."""

    scope: Scope = "model"
    simulated = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def classes(self, batch: Sequence[bytes]) -> Sequence[Sequence[tuple[int, float]]]:
        """Decoded by the project's own decoder."""
        self.sizes.append(len(batch))
        return [self._of(content) for content in batch]

    def _of(self, content: bytes) -> list[tuple[int, float]]:
        try:
            mean = decode(content, InputSpec(rgb=True)).mean((0, 1))
        except ImageError as exc:
            raise PointError(str(exc), kind="error") from exc
        distances = np.abs(np.array(COLOURS) - mean).sum(1)
        return [(int(place), 1.0 / (1.0 + distances[place])) for place in np.argsort(distances)[:5]]


class Simulated:
    """The simulated engine: its answers depend on an image's bytes alone."""

    scope: Scope = "model"
    simulated = True

    def __init__(self, classes: int) -> None:
        engine = create_engine("simulated", "cpu", 1)
        engine.start()
        self._model = engine.prepare(ModelSpec(name="m", engine="simulated", classes=classes))
        self._model.load()

    def classes(self, batch: Sequence[bytes]) -> Sequence[Sequence[tuple[int, float]]]:
        """The five likeliest."""
        rows = self._model.run(batch)
        return [[(int(place), float(row[place])) for place in np.argsort(-row)[:5]] for row in rows]


def png(colour: tuple[int, int, int], number: int) -> bytes:
    """Nearly of that colour, and different for each number."""
    image = Image.new("RGB", (8, 8), colour)
    image.putpixel((number % 8, number // 8 % 8), (number % 256, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def job(dataset: Path | str, batch_size: int = 4, repository: Path | None = None) -> Job:
    setting = Setting(model="colours", question="accuracy", batch_size=batch_size)
    return Job(setting=setting, dataset=str(dataset), repository=str(repository or ""))


def coloured(folder: Path, each: int, name: Callable[[int], str] = str) -> Path:
    """Class folders with `each` images of each colour."""
    for index, colour in enumerate(COLOURS):
        (folder / name(index)).mkdir(parents=True)
        for number in range(each):
            (folder / name(index) / f"{number}.png").write_bytes(png(colour, number))
    return folder


def accuracy(point: Point) -> tuple[int, float, float]:
    assert point.accuracy is not None
    return point.accuracy.images, point.accuracy.top1, point.accuracy.top5


def test_a_classifier_that_is_right_is_found_right_in_batches_of_the_setting(tmp_path: Path) -> None:
    told: list[Event] = []
    subject = MeanColour()
    point = measure(job(coloured(tmp_path / "colours", 3)), subject, told.append)
    assert accuracy(point) == (21, 1.0, 1.0)
    assert subject.sizes == [4, 4, 4, 4, 4, 1]
    assert point.images == 21
    assert (point.id, point.scope, point.simulated, point.warnings) == (point.setting.id, "model", False, ())
    assert point.accuracy is not None
    assert point.accuracy.top1_interval == pytest.approx((0.8454, 1.0), abs=1e-4)
    assert point.accuracy.dataset.startswith("colours sha256:")
    assert isinstance(told[0], Entered)
    assert any(isinstance(event, Progress) for event in told)


def test_a_known_number_of_wrong_labels_costs_exactly_that(tmp_path: Path) -> None:
    """Red images filed as yellow (near red: among the five) and as cyan (farthest from red: not among them)."""
    folder = coloured(tmp_path / "colours", 10)
    for number in range(6):
        (folder / "0" / f"{number}.png").rename(folder / "3" / f"red-{number}.png")
    for number in range(6, 10):
        (folder / "0" / f"{number}.png").rename(folder / "4" / f"red-{number}.png")
    count, top1, top5 = accuracy(measure(job(folder), MeanColour(), lambda _: None))
    assert count == 70
    assert top1 == pytest.approx(60 / 70)
    assert top5 == pytest.approx(66 / 70)


def test_labels_are_those_of_the_models_folder(tmp_path: Path) -> None:
    model = tmp_path / "repository" / "colours"
    model.mkdir(parents=True)
    write_labels(model / "corresp.txt", NAMES)
    (model / "net.onnx").write_bytes(b"never read")
    folder = coloured(tmp_path / "set", 2, NAMES.__getitem__)
    assert accuracy(measure(job(folder, repository=tmp_path / "repository"), MeanColour(), lambda _: None)) == (
        14,
        1.0,
        1.0,
    )
    with pytest.raises(PointError, match="'blue' is unknown; 'cyan' is unknown"):
        measure(job(folder), MeanColour(), lambda _: None)


def test_of_an_engines_own_answers_as_many_count_as_were_left_unchanged(tmp_path: Path) -> None:
    subject = Simulated(1000)
    images = {f"{number}.png": png(COLOURS[number % 7], number) for number in range(40)}
    lines = []
    for number, (name, content) in enumerate(images.items()):
        (tmp_path / name).write_bytes(content)
        ((own, _), (second, _), *_) = subject.classes([content])[0]
        lines.append(f"{name} {own if number >= 10 else second if number >= 4 else (own + 500) % 1000}")
    (tmp_path / "val.txt").write_text("\n".join(lines))
    (tmp_path / "more.png").write_bytes(b"")
    point = measure(job(tmp_path, batch_size=7), subject, lambda _: None)
    assert accuracy(point) == (40, 30 / 40, 36 / 40)
    assert point.simulated
    assert [warning.code for warning in point.warnings] == ["unlisted-images"]


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "colours", 3)
    broken = folder / "5" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(PointError, match=r"5/1\.png cannot be decoded \(.*\): repair it") as caught:
        measure(job(folder), MeanColour(), lambda _: None)
    assert caught.value.kind == "error"


class Fails(MeanColour):
    """For another reason than an image."""

    def classes(self, batch: Sequence[bytes]) -> Sequence[Sequence[tuple[int, float]]]:
        """No room for several."""
        if len(batch) > 1:
            raise PointError("no memory for this batch: send fewer images", kind="out-of-memory")
        return []


def test_a_failure_that_is_no_images_fault_stays_what_it_is(tmp_path: Path) -> None:
    folder = coloured(tmp_path / "colours", 1)
    with pytest.raises(PointError, match="no memory for this batch") as caught:
        measure(job(folder), Fails(), lambda _: None)
    assert caught.value.kind == "out-of-memory"
    with pytest.raises(PointError, match=r"0 answers came for 1 images from 0/0\.png on"):
        measure(job(folder, batch_size=1), Fails(), lambda _: None)


def test_without_a_dataset_it_is_asked_for() -> None:
    with pytest.raises(PointError, match="name their folder as `dataset`"):
        measure(job(""), MeanColour(), lambda _: None)
