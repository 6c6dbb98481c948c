"""Several runs that answer one question, such as the highest rate or whether answers are cached."""

from pathlib import Path
from typing import Protocol

from dlclient.results import Run

from dlload.audit import CachingAudit
from dlload.find_rate import RateFinder, search_folder
from dlload.options import StreamOptions
from dlload.standing import Figures


class Campaign(Protocol):
    """Decides on the next run; the runs themselves are made elsewhere."""

    folder: Path

    def next(self) -> StreamOptions | None:
        """The options of the run to make now; None when there is none left."""

    def observe(self, run: Run, measured: Figures) -> None:
        """Take in a run that was made."""

    def finish(self) -> tuple[str, bool]:
        """The result as text, and whether it is a good one. Raises RecordError."""


def campaign_of(options: StreamOptions, run_number: int) -> Campaign | None:
    """What the options ask for; None for a single run. Makes its folder. Raises StreamError."""
    if options.load.bounds is not None:
        return RateFinder(options, search_folder(options, run_number))
    if options.audit:
        return CachingAudit(options, search_folder(options, run_number, kind="audit"))
    return None
