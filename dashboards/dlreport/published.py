"""What other systems published, to stand beside what was measured here: rows of dashboards/reference/published.csv.

Comparability: A = same definition, print side by side with both hardware lines; B = compare the shape (ratio, slope), not
the value; C = history only. All of it was measured on other, older hardware, and whoever prints a row says so.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from dlreport.errors import InstallationError

Comparability = Literal["A", "B", "C"]

_PACKAGE = Path(__file__).resolve().parent
_PLACES = (_PACKAGE / "reference", _PACKAGE.parent / "reference")
"""In a wheel the files are inside the package; in a checkout they lie beside it, where people look for them."""


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure. `value` None: it did not run there."""

    ref_id: str
    system: str
    hardware: str
    software: str
    model: str
    precision: str
    batch_size: int | None
    mode: str
    metric: str
    unit: str
    timed_scope: str
    samples: int | None
    value: float | None
    value_origin: str
    comparability: str
    note: str

    @property
    def remark(self) -> str:
        """What a reader must know beside the value: how it was read off, and how it was measured."""
        origin = (
            f"read off a {self.value_origin}" if self.value_origin.startswith("chart") else f"from {self.value_origin}"
        )
        return "; ".join(part for part in (origin, self.note) if part)


OUR_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "caffenet": "caffenet",
        "nin": "nin",
        "squeezenet_v1.1": "squeezenet1_1",
        "vgg16": "vgg16",
        "vgg19": "vgg19",
        "inception_v3": "inception_v3",
        "resnet101": "resnet101",
        "resnet152": "resnet152",
    }
)
"""A network's name in the stream test of 2018 -> its name here. (Its figures for Inception-BN and ResNeXt101 were not published.)"""


def load_published() -> tuple[Published, ...]:
    """Every row, in file order. Raises InstallationError."""
    path = _file("published.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        return tuple(_row(row) for row in csv.DictReader(lines))


def stream_figures() -> tuple[Published, ...]:
    """The rows of runs that, like the stream, sent one image after another to a mix of models."""
    return tuple(row for row in load_published() if row.mode.startswith("stream"))


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """What the stream test of 2018 published of one network, at batch 1 where nothing else is said. None: it did not."""

    name: str
    """As it was published."""
    cpu: Published | None
    gpu: Published | None
    gpu_64: Published | None
    """At batch 64, of the whole batch."""
    file: Published | None


def network_figures() -> dict[str, PublishedNetwork]:
    """By our name for the network, in the order of OUR_NAMES."""
    rows = {row.ref_id: row for row in load_published() if row.system == "cortex"}
    return {
        ours: PublishedNetwork(
            theirs,
            rows.get(f"cortex-cpu-{theirs}-b1"),
            rows.get(f"cortex-gpu-{theirs}-b1"),
            rows.get(f"cortex-gpu-{theirs}-b64"),
            rows.get(f"cortex-size-{theirs}"),
        )
        for theirs, ours in OUR_NAMES.items()
    }


@dataclass(frozen=True, slots=True)
class PublishedCost:
    """What DeepDetect's report publishes of a network beside its times: a row of published_models.csv. None: not published."""

    model: str
    macs: float
    """Multiply-adds of one forward."""
    parameters: float
    top1: float | None
    """Fraction of ImageNet's validation set."""


def published_costs() -> dict[str, PublishedCost]:
    """By the network's name in that report, in file order. Raises InstallationError."""
    with _file("published_models.csv").open(newline="", encoding="utf-8") as lines:
        return {
            row["model"]: PublishedCost(
                row["model"],
                float(row["gmacs"]) * 1e9,
                float(row["mparams"]) * 1e6,
                float(row["top1_percent"]) / 100 if row["top1_percent"] else None,
            )
            for row in csv.DictReader(lines)
        }


def _file(name: str) -> Path:
    for place in _PLACES:
        if (place / name).is_file():
            return place / name
    raise InstallationError(
        f"{name} is missing from this installation; install dlserve again, or run it from a whole checkout"
    )


def _row(row: dict[str, str]) -> Published:
    return Published(
        ref_id=row["ref_id"],
        system=row["system"],
        hardware=row["hardware"],
        software=row["software"],
        model=row["model"],
        precision=row["precision"],
        batch_size=int(row["batch_size"]) if row["batch_size"] else None,
        mode=row["mode"],
        metric=row["metric"],
        unit=row["unit"],
        timed_scope=row["timed_scope"],
        samples=int(row["samples"]) if row["samples"] else None,
        value=float(row["value"]) if row["value"] else None,
        value_origin=row["value_origin"],
        comparability=row["comparability"],
        note=row["note"],
    )
