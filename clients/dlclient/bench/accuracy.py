"""How often a model is right about labelled images: top 1 and top 5, through the very path whose speed is measured."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Protocol

from dlmodels.errors import ImageError, ModelError
from dlmodels.images import InputSpec, decode
from dlmodels.repository import read_labels, read_model

from dlclient.bench.job import Entered, Event, Job, Progress
from dlclient.bench.labelled import Dataset, Labelled, read_dataset
from dlclient.bench_result import Accuracy, Point, Scope
from dlclient.errors import PointError
from dlclient.intervals import proportion_interval
from dlclient.results import Interval, Reason

_TOP = 5
_TELL_S = 0.5
_CLASSES = 1000
"""Of a model that has no folder here, at a server or simulated: ImageNet's."""


class Classifier(Protocol):
    """What accuracy needs of a Subject."""

    scope: Scope

    @property
    def simulated(self) -> bool:
        """Whether it only sleeps."""

    def classes(self, batch: Sequence[bytes]) -> Sequence[Sequence[tuple[int, float]]]:
        """Of each image file the five likeliest classes and their probabilities, likeliest first. Raises PointError."""


def measure(job: Job, subject: Classifier, tell: Callable[[Event], None]) -> Point:
    """The accuracy of an open subject on `job.dataset`, in batches of the setting's size.

    Raises PointError for a dataset that cannot be understood, an image that cannot be decoded, and what the subject raises.
    """
    if not job.dataset:
        raise PointError("accuracy needs labelled images: name their folder as `dataset`", kind="error")
    labels, classes = _labels(job)
    dataset = read_dataset(Path(job.dataset), labels, classes)
    top1 = top5 = 0
    for chunk, answers in _answered(job, subject, dataset, tell):
        for image, answer in zip(chunk, answers, strict=True):
            likeliest = [index for index, _ in answer[:_TOP]]
            top1 += likeliest[:1] == [image.truth]
            top5 += image.truth in likeliest
    return _point(job, subject, dataset, top1, top5)


def _answered(
    job: Job, subject: Classifier, dataset: Dataset, tell: Callable[[Event], None]
) -> Iterator[tuple[Sequence[Labelled], Sequence[Sequence[tuple[int, float]]]]]:
    """Each batch with its answers; hung where one batch takes longer than an iteration may."""
    told_s = float("-inf")
    size = job.setting.batch_size
    for first in range(0, len(dataset.images), size):
        if monotonic() - told_s > _TELL_S:
            tell(Entered("measure", job.budget.iteration_timeout_s + _TELL_S))
            tell(Progress(first / len(dataset.images)))
            told_s = monotonic()
        chunk = dataset.images[first : first + size]
        contents = [_read(image) for image in chunk]
        try:
            answers = subject.classes(contents)
        except PointError as exc:
            _blame(chunk, contents, exc)
            raise
        if len(answers) != len(chunk):
            raise PointError(
                f"{len(answers)} answers came for {len(chunk)} images from {chunk[0].name} on: report the engine's or server's defect",
                kind="error",
            )
        yield chunk, answers


def _read(image: Labelled) -> bytes:
    try:
        return image.path.read_bytes()
    except OSError as exc:
        raise PointError(
            f"{image.path} cannot be read ({exc.strerror}): correct its permissions, or remove it", kind="error"
        ) from exc


def _blame(chunk: Sequence[Labelled], contents: Sequence[bytes], exc: PointError) -> None:
    """Raise a PointError that names the image that cannot be decoded, where that is why a batch failed."""
    for image, content in zip(chunk, contents, strict=True):
        try:
            decode(content, InputSpec())
        except ImageError as why:
            raise PointError(
                f"{image.path} cannot be decoded ({why}): repair it, or take it out of the dataset", kind="error"
            ) from exc


def _labels(job: Job) -> tuple[Sequence[str], int]:
    """The model's labels and the number of its classes, as its folder in the repository has them."""
    folder = Path(job.repository, job.setting.model)
    if not job.repository or not folder.is_dir():
        return (), _CLASSES
    try:
        spec = read_model(folder)
        return read_labels(Path(spec.folder, spec.labels), spec.classes) if spec.labels else (), spec.classes
    except ModelError as exc:
        raise PointError(f"the labels of {job.setting.model!r} cannot be read: {exc}", kind="error") from exc


def _point(job: Job, subject: Classifier, dataset: Dataset, top1: int, top5: int) -> Point:
    count = len(dataset.images)
    warnings: tuple[Reason, ...] = ()
    if dataset.unlisted:
        warnings = (
            Reason(
                "unlisted-images",
                f"{dataset.unlisted} files of the dataset's folder are not in its list and were not counted",
                "list them, or move them elsewhere",
            ),
        )
    return Point(
        id=job.setting.id,
        setting=job.setting,
        started="",
        seconds=0.0,
        scope=subject.scope,
        simulated=subject.simulated,
        images=count,
        accuracy=Accuracy(
            images=count,
            top1=top1 / count,
            top5=top5 / count,
            top1_interval=_interval(top1, count),
            top5_interval=_interval(top5, count),
            dataset=dataset.name,
        ),
        warnings=warnings,
    )


def _interval(right: int, count: int) -> Interval:
    found = proportion_interval(right, count)
    return found.low, found.high
