"""The other front ends of this server: asked over Unix sockets, seldom, and never on the way of a call.

Each front end answers two questions: "follow" (take over what has changed of the services) and "tally" (what have you
counted?). What it has told once is kept in a file, so that it still counts when the process has died: the others read it
there until a successor has come, which goes on from it. So sums never fall.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from dlserve.front import tally
from dlserve.front.tally import Tally

log = logging.getLogger(__name__)
FOLLOW, TALLY = b"follow\n", b"tally\n"
FOLLOW_S, TALLY_S = 10.0, 2.0
"""How long an answer may take; a front end that needs longer hangs, and is left out."""


class Fellows:
    """All front ends but this one."""

    def __init__(
        self, folder: Path, own: int, count: int, follow: Callable[[], None], count_up: Callable[[], Tally]
    ) -> None:
        """`follow`: called when another has changed the services. `count_up`: what this process has counted."""
        self._folder = folder
        self._own = own
        self._others = [number for number in range(count) if number != own]
        self._follow = follow
        self._count_up = count_up
        self._before: Tally | None = None
        """What predecessors of this process had told."""
        self._server: asyncio.AbstractServer | None = None

    @property
    def alone(self) -> bool:
        """Whether there are none."""
        return not self._others

    async def start(self) -> None:
        """Be there for the others from now on."""
        if self.alone:
            return
        before = self._read(self._own)
        self._before = before.of_the_dead() if before else None
        path = self._socket(self._own)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, path)

    def close(self) -> None:
        """Be there for them no more."""
        if self._server is not None:
            self._server.close()

    async def follow(self) -> None:
        """Return once every other front end has taken over what has changed of the services."""
        await asyncio.gather(*(self._ask(number, FOLLOW, FOLLOW_S) for number in self._others))

    async def tallies(self) -> list[Tally]:
        """What all others have counted, and predecessors of this process; nothing where there are no others."""
        if self.alone:
            return []
        told = await asyncio.gather(*(self._tally_of(number) for number in self._others))
        self._keep(self._with_before())
        return [one for one in (self._before, *told) if one is not None]

    async def _tally_of(self, number: int) -> Tally | None:
        told = await self._ask(number, TALLY, TALLY_S)
        if told:
            with contextlib.suppress(msgspec.DecodeError):  # it died while it answered
                return tally.decode(told)
        dead = self._read(number)
        return dead.of_the_dead() if dead else None

    async def _ask(self, number: int, question: bytes, within_s: float) -> bytes | None:
        """The answer of another front end; None where it is down or hangs."""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_unix_connection(self._socket(number))
                try:
                    writer.write(question)
                    return await reader.read()
                finally:
                    writer.close()
        except OSError as exc:
            if isinstance(exc, TimeoutError):
                log.warning("front end %d has not answered within %g s: it is left out", number, within_s)
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = await reader.readline()
            if question == FOLLOW:
                self._follow()
                writer.write(b"done\n")
            elif question == TALLY:
                mine = self._with_before()
                self._keep(mine)
                writer.write(tally.encode(mine))
            await writer.drain()
        except OSError:
            log.debug("another front end did not wait for its answer")
        finally:
            writer.close()

    # ---- what was told

    def _with_before(self) -> Tally:
        mine = self._count_up()
        return mine if self._before is None else tally.joined(mine, self._before)

    def _keep(self, told: Tally) -> None:
        path = self._file(self._own)
        new = path.with_suffix(".new")
        new.write_bytes(tally.encode(told))
        new.rename(path)

    def _read(self, number: int) -> Tally | None:
        try:
            return tally.decode(self._file(number).read_bytes())
        except FileNotFoundError:
            return None

    def _socket(self, number: int) -> Path:
        return self._folder / f"front-{number}.sock"

    def _file(self, number: int) -> Path:
        return self._folder / f"front-{number}.tally"
