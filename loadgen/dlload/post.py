"""A Locust worker's part of a run: its share of the plan, and the file that its records go to."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import gevent
from dlclient.client import Client
from dlclient.results import Record, share_file
from dlclient.timeline import encode_line

from dlload import pictures
from dlload.connection import Connection
from dlload.crew import State, share_state
from dlload.distribution import Assignment
from dlload.encoded_images import encode_images
from dlload.errors import ImagesError, RecordError
from dlload.live import Live
from dlload.monitoring.client import ClientWatch
from dlload.monitoring.monitor import INTERVAL_S
from dlload.options import StreamOptions
from dlload.progress import phase_progress
from dlload.protocols.choice import create_protocol
from dlload.recorder import Recorder, new_folder, open_recorder
from dlload.share import Share, Step
from dlload.target import find_target

logger = logging.getLogger(__name__)


class Post:
    """Made from an assignment; `close` gives the path of the records."""

    def __init__(self, share: Share, recorder: Recorder, live: Live) -> None:
        self.share = share
        self._recorder = recorder
        self._live = live
        self._lines: list[bytes] = []
        watch = ClientWatch(INTERVAL_S, lambda line: self._lines.append(encode_line(line)))
        self._greenlets = [gevent.spawn(watch.probe), gevent.spawn(watch.run)]

    def live(self) -> bytes:
        """Its figures so far."""
        return self._live.encode()

    def samples(self) -> tuple[bytes, ...]:
        """Lines for samples.jsonl since the last time."""
        lines, self._lines = self._lines, []
        return tuple(lines)

    def begin(self, step: Step) -> None:
        """Open a phase."""
        self.share.begin(step)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the phase that was opened last is over, at most that long; whether it is."""
        phase = self.share.current
        return phase is None or phase.ended.wait(timeout_s)

    def state(self) -> State:
        """How far it is."""
        return share_state(self.share)

    def close(self) -> Path:
        """No more records come; where they are."""
        gevent.killall(self._greenlets)
        self.share.end()
        self.share.dispose()
        self._recorder.close()
        return self._recorder.path


def make_post(assignment: Assignment, options: StreamOptions) -> Post:
    """`options`: those of this worker; where its images and its key are. Raises StreamError."""
    plan = assignment.read_plan()
    album = pictures.open_album(options.images)
    contents = album.read(name for slot in plan.slots for name in slot.images)
    if pictures.digest(contents) != assignment.image_sha256:
        raise ImagesError(
            f"--images {options.images} of this worker holds other images than the master's; give both the same folder"
        )
    asked = replace(options, url=assignment.url, services=plan.header.services, batch_size=plan.header.batch_size)
    with Client(asked.url, asked.api_key, asked.timeout_s) as client:
        target, services = find_target(client, asked)
    protocol = create_protocol(asked, target)
    folder = Path(assignment.folder)
    if not assignment.is_here:
        folder = new_folder(None, overwrite=False, run_number=1, now=time.localtime())
        logger.info("share %d of %d: records in %s", assignment.share, assignment.of, folder)
    recorder = open_recorder(folder, share_file(assignment.share))

    def write(record: Record) -> None:
        live.observe(record)
        try:
            recorder.write(record)
        except RecordError as exc:
            share.fail(str(exc))  # a run that lost a record has not gone to its end
            raise

    share = Share(
        plan.slots,
        protocol,
        encode_images(protocol, services, contents),
        lambda: Connection(assignment.url, options.timeout_s),
        write,
        drop_after_s=assignment.drop_after_s,
        number=assignment.share,
        of=assignment.of,
        keeps_answers=options.keeps_answers,
    )
    live = Live(lambda: phase_progress(share, assignment.phases, assignment.phases))
    return Post(share, recorder, live)
