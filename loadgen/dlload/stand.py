"""What `--preset` without `--host` needs on this machine: models built, limits measured, a dlserve that is up meanwhile.

All of it is done by a process of its own (dlclient.local_server), which ends, in order, when we do or say so.
"""

import logging
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gevent
from dlclient import local_server
from dlclient.errors import LocalServerError
from dlclient.limits import LIMITS_FILE
from gevent.event import AsyncResult, Event

from dlload.errors import TargetError
from dlload.options import StreamOptions, with_preset

logger = logging.getLogger(__name__)

_STOP_S = 2 * local_server.STOP_S
_LAST_LINES = 3


class Stand:
    """Opened by the first run, kept for later ones, closed once at the end; `close` may come at any time, from anywhere."""

    def __init__(self) -> None:
        self._settled = Event()
        """Cleared while the process is being started: until then there is nothing to stop it by."""
        self._settled.set()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: gevent.Greenlet | None = None
        self._url: AsyncResult[str] = AsyncResult()
        self._limits: Path | None = None

    def options(self, given: StreamOptions) -> StreamOptions:
        """The options of a run against the server here, which is started first if there is none yet.

        Raises TargetError or OptionError.
        """
        wanted = preset_of(given)
        if self._process is None:
            self._start(wanted)
        return replace(wanted, url=self._url.get(), limits=wanted.limits or self._limits)

    def _start(self, options: StreamOptions) -> None:
        repository = options.model_dir or local_server.REPOSITORY
        command = [sys.executable, "-m", "dlclient.local_server", *options.services, "--repository", str(repository)]
        command += ["--workers", str(options.gpu_num or local_server.default_workers())]
        if options.limits is None:
            self._folder = tempfile.TemporaryDirectory()
            self._limits = Path(self._folder.name) / LIMITS_FILE
            command += ["--limits", str(self._limits)]
        self._settled.clear()
        self._process = subprocess.Popen(  # noqa: S603  our own command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # Ctrl-C is for us
        )
        self._reader = gevent.spawn(self._read, self._process)
        self._settled.set()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Pass on what it says, and the address when it comes."""
        assert process.stdout is not None
        last: deque[str] = deque(maxlen=_LAST_LINES)
        with process.stdout as said:
            for line in said:
                logger.info(line.rstrip("\n"))
                last.append(line.strip())
                if line.startswith(local_server.LISTENING):
                    self._url.set(line.removeprefix(local_server.LISTENING).strip())
        if not self._url.ready():
            self._url.set_exception(TargetError(f"no server could be started here: {' / '.join(last)}"))

    def close(self) -> None:
        """Stop whatever runs, in order. Raises TargetError if that was not possible."""
        self._settled.wait()
        process = self._process
        if process is not None:
            was_up = self._url.successful()
            self._end_input(process)
            try:
                code = process.wait(_STOP_S)
            except subprocess.TimeoutExpired as exc:
                process.kill()
                raise TargetError(
                    f"the server here did not stop within {_STOP_S} s; look for dlserve processes"
                ) from exc
            if self._reader is not None:
                self._reader.join()
            if was_up and code != 0:
                raise TargetError(f"the server here did not stop in order (exit code {code}); see its log above")
        if self._folder is not None:
            self._folder.cleanup()

    @staticmethod
    def _end_input(process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        process.stdin.close()


def preset_of(options: StreamOptions) -> StreamOptions:
    """The options with the networks of their preset, if they have one, as services. Raises TargetError or OptionError."""
    return with_preset(options, _networks(options.preset)) if options.preset else options


def _networks(preset: str) -> Sequence[str]:
    try:
        return local_server.preset_networks(preset)
    except LocalServerError as exc:
        raise TargetError(str(exc)) from exc
