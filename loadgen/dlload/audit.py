"""`--audit caching`: whether the server answers the same image from memory. Two runs of one length: unique images, then one image.

The unique ones are the same picture too, so that decoding and the model take the same time: each has another comment in its file.
A server that keeps answers by the bytes of the image is quicker in the second run, one that does not is not.
"""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from dlclient.intervals import percentile_interval
from dlclient.results import Reason, Run

from dlload.errors import ImagesError
from dlload.options import StreamOptions, Variety
from dlload.plan import Plan
from dlload.standing import Figures

logger = logging.getLogger(__name__)

VARIETIES: tuple[Variety, ...] = ("unique", "same")
QUICKER = 0.9
"""The median of the one image, at the most that its interval allows, is below this part of the least of the unique ones."""

_JPEG_START = b"\xff\xd8"
_JPEG_COMMENT = b"\xff\xfe"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_BYTES = 25
"""Of the chunk IHDR, which is always the first."""


def with_comment(image: bytes, comment: str) -> bytes:
    """The same picture in a file with a comment. Raises ImagesError for a format that has none here."""
    content = comment.encode("ascii")
    if image.startswith(_JPEG_START):
        return _JPEG_START + _JPEG_COMMENT + (len(content) + 2).to_bytes(2, "big") + content + image[2:]
    if image.startswith(_PNG_START):
        chunk = b"tEXt" + b"Comment\0" + content
        length, check = (len(chunk) - 4).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
        end = len(_PNG_START) + _PNG_HEADER_BYTES
        return image[:end] + length + chunk + check + image[end:]
    raise ImagesError("--audit caching needs JPEG or PNG images: only those can be made unique without another picture")


def varied(plan: Plan, contents: Mapping[str, bytes], variety: Variety) -> tuple[Plan, dict[str, bytes]]:
    """The same plan with the first image only, each time the same file or each time another one. Raises ImagesError."""
    name = plan.slots[0].images[0]
    base = contents[name]
    if variety == "same":
        slots = tuple(msgspec.structs.replace(slot, images=(name,) * len(slot.images)) for slot in plan.slots)
        return Plan(plan.header, slots), {name: with_comment(base, "0")}
    files: dict[str, bytes] = {}
    slots_made = []
    for slot in plan.slots:
        names = tuple(f"{name}#{slot.index}.{place}" for place in range(len(slot.images)))
        files |= {one: with_comment(base, one.rpartition("#")[2]) for one in names}
        slots_made.append(msgspec.structs.replace(slot, images=names))
    return Plan(msgspec.structs.replace(plan.header, images=tuple(files)), tuple(slots_made)), files


class CachingAudit:
    """Decides on the next run; the runs themselves are made elsewhere."""

    def __init__(self, options: StreamOptions, folder: Path) -> None:
        """`folder`: exists; gets a folder for each run."""
        self.folder = folder
        self.reason: Reason | None = None
        """What the audit found against the server; None: nothing, or it is not over."""
        self._options = options
        self._runs: list[tuple[Run, Figures]] = []

    def next(self) -> StreamOptions | None:
        """The options of the run to make now; None when the audit is over."""
        if len(self._runs) == len(VARIETIES) or (self._runs and self._runs[-1][0].verdict == "invalid"):
            return None
        variety = VARIETIES[len(self._runs)]
        phases = tuple(phase for phase in self._options.phases if phase == "warm") or self._options.phases[:1]
        return replace(self._options, phases=phases, variety=variety, results=self.folder / variety)

    def observe(self, run: Run, measured: Figures) -> None:
        """Take in a run that was made."""
        self._runs.append((run, measured))
        if len(self._runs) == len(VARIETIES):
            self.reason = compare(*(figures for _, figures in self._runs))

    def finish(self) -> tuple[str, bool]:
        """What it found, as text, and whether that is well."""
        invalid = next((run for run, _ in self._runs if run.verdict == "invalid"), None)
        if invalid is not None:
            return f"INVALID: {invalid.reasons[0].text}. {invalid.reasons[0].cure}.", False
        if len(self._runs) < len(VARIETIES):
            return "INVALID: the audit was interrupted; run it again in full.", False
        unique, same = (float(np.median(figures.latencies("service"))) * 1e3 for _, figures in self._runs)
        medians = (
            f"median service time {unique:.3f} ms for unique images, {same:.3f} ms for the same one again and again"
        )
        if self.reason is not None:
            return f"FAILED: {self.reason.text}; {medians}. {self.reason.cure}.", False
        return f"PASSED: no sign that answers are cached; {medians}.", True


def compare(unique: Figures, same: Figures) -> Reason | None:
    """Against the server, if the same image is answered clearly quicker.

    By service times, so that no queue counts, and by medians, so that single slow answers neither hide nor show it.
    """
    first, second = (
        percentile_interval(np.sort(figures.latencies("service")).tolist(), 0.5) for figures in (unique, same)
    )
    if first is None or second is None:
        return Reason("audit-too-short", "too few answers to compare", "ask for more --requests")
    if second.high >= QUICKER * first.low:
        return None
    text = f"the same image is answered in {second.high / first.low:.0%} of the time of unique ones, or less"
    cure = "the server seems to keep answers: turn its response cache off, or measure with unique images only"
    return Reason("answers-cached", text, cure)
