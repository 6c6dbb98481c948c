"""What engines share whose model files carry their own graph: checked files, a trial run, class probabilities.

Such a file tells neither its number of classes nor whether its last step is a softmax: Caffe's and MXNet's classifiers end
with one, torch's do not. So every model is tried once when it is prepared, on two pictures of noise: answers that are
probabilities by themselves are left as they are, all others go through softmax (or sigmoid, for independent classes).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Model
from dlmodels.engines.file_stamp import Stamp, stamp
from dlmodels.errors import ForwardError, LoadError
from dlmodels.spec import ModelSpec

_SUM_TOLERANCE = 1e-3
_TRIALS = 2

Outputs = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class GraphModel(Model):
    """A classifier of one framework. Subclasses open, close and run it; `prepare` ends with `try_out`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        folder = Path(spec.folder)
        self._paths = tuple(folder / name for name in spec.files if name != spec.labels)
        self._stamps: tuple[Stamp, ...] = tuple(map(stamp, self._paths))
        self._loaded = False
        self._are_probabilities = False

    @abstractmethod
    def _open(self) -> None:
        """Read the files and make the network ready to run. Raises LoadError or OutOfMemoryError."""

    @abstractmethod
    def _close(self) -> None:
        """Give back everything that holds weights. Harmless when not open."""

    @abstractmethod
    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's one output for float32 (n, channels, height, width), on the host. Raises as `run` does."""

    @property
    def weights_bytes(self) -> int:
        """Size of the model's files, labels apart: what the framework reads. Its own copies, if it makes any, come on top."""
        return sum(found.bytes for found in self._stamps)

    def load(self) -> None:
        """Read the files, which must be those that were checked."""
        if self._loaded:
            return
        for path, checked in zip(self._paths, self._stamps, strict=True):
            if stamp(path) != checked:
                raise LoadError(f"{path} has changed since it was checked: create its service again or restart")
        self._open()
        self._loaded = True

    def unload(self) -> None:
        """Drop the network."""
        self._loaded = False
        self._close()

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Probabilities, float32 (n, classes)."""
        return self._run_by(self._outputs, batch)

    def _run_by(self, outputs: Outputs, batch: Batch) -> NDArray[np.float32]:
        """The probabilities, where `outputs` does what `_outputs` is described to do."""
        rows = self._rows(batch, outputs)
        return rows if self._are_probabilities else self._squash(rows)

    def try_out(self) -> None:
        """Load once and run noise, since nothing else tells what the files are. Raises LoadError or OutOfMemoryError."""
        self.load()
        try:
            rows = np.concatenate([self._rows(noise, self._outputs) for noise in self._noise()])
        except ForwardError as exc:
            raise LoadError(f"{self._name()} does not work as {self.spec.name!r} is described: {exc}") from exc
        finally:
            self.unload()
        self._are_probabilities = are_probabilities(rows, self.spec)

    def _noise(self) -> Iterator[NDArray[np.float32]]:
        """Pictures of random bytes, preprocessed as any picture would be; each as often as the graph's batch wants it."""
        return trial_pictures(self.spec, self.most_images or 1)

    def _rows(self, batch: Batch, outputs: Outputs) -> NDArray[np.float32]:
        """What the network gives, as finite float32 (n, classes). Raises ForwardError where it gives anything else."""
        if not isinstance(batch, np.ndarray) or batch.ndim != 4 or batch.dtype != np.float32 or len(batch) == 0:
            raise ForwardError(
                f"model {self.spec.name!r} takes float32 (n, channels, height, width) with n of 1 or more"
            )
        if not self._loaded:
            raise ForwardError(f"{self.spec.name!r} is not loaded: load it before it runs")
        output = outputs(np.ascontiguousarray(batch))
        if output.shape[:1] != (len(batch),) or output[:1].size != self.spec.classes:
            raise ForwardError(
                f"{self.spec.name!r} gives scores of shape {output.shape} for a batch of {len(batch)}, where"
                f" {self.spec.classes} classes are expected: correct the number of classes (nclasses) or the model"
            )
        rows = output.reshape(len(batch), self.spec.classes).astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            raise ForwardError(f"{self.spec.name!r} answered with numbers that are not finite: check weights and input")
        return rows

    def _squash(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores -> probabilities: softmax over the classes, or sigmoid where they are independent."""
        if self.spec.multi_label:
            with np.errstate(over="ignore"):  # a score below -88 gives 0, as it should
                return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def _name(self) -> str:
        """The files, for a message."""
        return " and ".join(map(str, self._paths))


def trial_pictures(spec: ModelSpec, count: int = 1) -> Iterator[NDArray[np.float32]]:
    """Batches of noise as any picture would be after its preprocessing; each batch is one picture, `count` times."""
    wanted = spec.input
    draws = np.random.default_rng(0)
    for _ in range(_TRIALS):
        noise = draws.uniform(-1, 1, (1, *wanted.shape)).astype(np.float32)
        if wanted.scale == 1.0 and not wanted.std:
            noise *= np.float32(128)
        yield np.repeat(noise, count, axis=0)


def are_probabilities(rows: NDArray[np.float32], spec: ModelSpec) -> bool:
    """Whether a network's answers to the trial pictures, (n, classes), need no softmax (or sigmoid) any more."""
    within = bool((rows >= 0).all() and (rows <= 1 + _SUM_TOLERANCE).all())
    sums_to_one = bool((np.abs(rows.sum(axis=1) - 1) < _SUM_TOLERANCE).all())
    return within and (sums_to_one or spec.multi_label)
