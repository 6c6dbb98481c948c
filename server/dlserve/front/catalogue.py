"""Which services there are: the same for every front end, whichever of them makes or deletes one.

Several front ends keep the list in a folder: an index, replaced as a whole, and a file for each service, written once.
Whoever changes it holds a lock of the file system, which ends with its process, then has the others follow, and only then
answers its client: so a service that was made through one connection can be called at once through any other. The services
outlive every front end: one that is started anew finds them there. With one front end there is no folder and no lock.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from dlmodels.engines.base import Temperature
from dlmodels.repository import ModelSpec

from dlserve.errors import NoWorkerError, ServiceExistsError, ServiceNotFoundError
from dlserve.front.fellows import Fellows
from dlserve.front.parameters import Output
from dlserve.front.pool import WorkerPool
from dlserve.front.services import Registry, Service, from_folder

_LOOK_AGAIN_S = 0.005
_WAIT_S = 30.0
"""For the lock of the index, which is held for a write of some kilobytes."""


class Record(msgspec.Struct, frozen=True):
    """A service, as the front end that made it tells the others."""

    number: int
    lineage: int
    name: str
    spec: ModelSpec
    labels: tuple[str, ...]
    output: Output
    description: str
    mllib: str
    created_with: dict[str, Any]
    weights_bytes: int
    settings: dict[str, Any]
    reload_tiers: tuple[Temperature, ...]


class Index(msgspec.Struct, frozen=True):
    """The numbers of all services."""

    loaded: tuple[int, ...] = ()
    unloaded: tuple[int, ...] = ()


class Catalogue:
    """Changes the services, here and at every other front end."""

    def __init__(self, registry: Registry, pool: WorkerPool, fellows: Fellows, folder: Path) -> None:
        """`folder`: shared by all front ends; not used where there is but one."""
        self._registry = registry
        self._pool = pool
        self._fellows = fellows
        self._folder = folder
        self._names: int | None = None
        """The file of `_hold`, open as long as this process lives: to close it would end all its locks."""

    async def begin(self, models_dir: str) -> None:
        """Make every model folder a service; or, where front ends have been before, take over what they know.

        Raises StartError naming the folder that cannot be read and the cure.
        """
        if self._fellows.alone:
            from_folder(self._registry, models_dir)
            return
        async with self._locked():
            if self._index_file.exists():
                self.follow()
            else:
                from_folder(self._registry, models_dir)
                for service in self._registry:
                    self._write(service)
                self._write_index(Index(tuple(service.number for service in self._registry)))
        await self._fellows.follow()  # whoever died within a change has told nobody

    @contextlib.asynccontextmanager
    async def reserved(self, name: str) -> AsyncIterator[None]:
        """Hold a name while its service is being made. Raises ServiceExistsError."""
        with contextlib.ExitStack() as stack:
            self._registry.reserve(name)
            stack.callback(self._registry.release, name)
            if not self._fellows.alone:
                self._hold(name, stack)
                self.follow()
                self._registry.check_new(name)
            yield

    async def enter(self, service: Service) -> None:
        """A service that was made and defined is there: for every front end, on return."""
        before = self._registry.find_unloaded(service.name)
        async with self._locked():
            if not self._fellows.alone:
                self._write(service)
                index = self._read_index()
                unloaded = _without(index.unloaded, before.number if before else -1)
                self._write_index(Index((*index.loaded, service.number), unloaded))
            self._registry.add(service)
            self._pool.settled(service)
        await self._fellows.follow()
        if before is not None:
            self._drop(before)

    async def remove(self, service: Service) -> None:
        """A service is deleted, loaded or not. Raises ServiceNotFoundError where another front end was faster."""
        async with self._locked():
            if not self._fellows.alone:
                self._strike(service, Index())
            self._registry.remove(service)
            self._pool.forget(service)
        await self._fellows.follow()
        self._drop(service)

    async def unload(self, service: Service) -> None:
        """A service is served no longer, and remembered. Raises ServiceNotFoundError where another has deleted it."""
        async with self._locked():
            if not self._fellows.alone:
                self._strike(service, Index(unloaded=(service.number,)))
            self._registry.unload(service)
            self._pool.forget(service)
        await self._fellows.follow()

    def follow(self) -> None:
        """Take over what other front ends have changed."""
        while True:
            index = self._read_index()
            try:
                self._take_over(index)
            except FileNotFoundError:
                if index == self._read_index():
                    raise
            else:
                return

    # ---- the folder

    def _take_over(self, index: Index) -> None:
        registry = self._registry
        known = {service.number: service for service in (*registry, *registry.unloaded)}
        records = [self._read(number) for number in (*index.loaded, *index.unloaded) if number not in known]
        by_lineage = {service.lineage: service for service in known.values()}
        for service in registry:
            if service.number in index.unloaded:
                registry.unload(service)
                self._pool.forget(service)
        for service in known.values():
            if service.number not in index.loaded and service.number not in index.unloaded:
                registry.remove(service)
                self._pool.forget(service)
        for record in records:
            service = _service(record, by_lineage.get(record.lineage))
            if record.number in index.unloaded:
                registry.unload(service)
                continue
            self._pool.define(service)
            registry.add(service)
            self._pool.settled(service)

    def _strike(self, service: Service, instead: Index) -> None:
        index = self._read_index()
        if service.number not in (*index.loaded, *index.unloaded):
            raise ServiceNotFoundError(f"there is no service {service.name!r:.80} any more; GET /info lists them")
        self._write_index(
            Index(
                (*_without(index.loaded, service.number), *instead.loaded),
                (*_without(index.unloaded, service.number), *instead.unloaded),
            )
        )

    def _hold(self, name: str, stack: contextlib.ExitStack) -> None:
        """Keep the other front ends from using a name until the stack is closed. Raises ServiceExistsError.

        Each name is a byte of one file; the registry sees to calls of this process, which all have the same locks.
        """
        if self._names is None:
            self._names = os.open(self._folder / "names", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:7], "big")
        try:
            fcntl.lockf(self._names, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            raise ServiceExistsError(f"{name!r:.80} is being created by another call") from None
        stack.callback(fcntl.lockf, self._names, fcntl.LOCK_UN, 1, place)

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Have the index to oneself; what is within must not wait for anything. Raises NoWorkerError."""
        if self._fellows.alone:
            yield
            return
        descriptor = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        until = perf_counter() + _WAIT_S
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if perf_counter() > until:
                    raise NoWorkerError("another front end holds the list of services and hangs: see the server's log")
                await asyncio.sleep(_LOOK_AGAIN_S)
            yield
        finally:
            os.close(descriptor)

    @property
    def _index_file(self) -> Path:
        return self._folder / "index"

    def _drop(self, service: Service) -> None:
        if not self._fellows.alone:
            self._file(service.number).unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.service"

    def _read_index(self) -> Index:
        try:
            return msgspec.json.decode(self._index_file.read_bytes(), type=Index)
        except FileNotFoundError:
            return Index()

    def _write_index(self, index: Index) -> None:
        new = self._folder / "index.new"
        new.write_bytes(msgspec.json.encode(index))
        new.rename(self._index_file)

    def _read(self, number: int) -> Record:
        return msgspec.json.decode(self._file(number).read_bytes(), type=Record)

    def _write(self, service: Service) -> None:
        fields = {name: getattr(service, name) for name in Record.__struct_fields__ if name != "weights_bytes"}
        record = Record(**fields, weights_bytes=service.expectation.weights_bytes)
        self._file(service.number).write_bytes(msgspec.json.encode(record))


def _service(record: Record, before: Service | None) -> Service:
    """A service of another front end; `before`: the same under its last number, whose totals here go on."""
    fields = {name: getattr(record, name) for name in Record.__struct_fields__ if name != "weights_bytes"}
    service = Service(**fields)
    if before is not None:
        service.statistics, service.expectation = before.statistics, before.expectation
    service.expectation.weights_bytes = record.weights_bytes
    return service


def _without(numbers: Iterable[int], number: int) -> tuple[int, ...]:
    return tuple(one for one in numbers if one != number)
