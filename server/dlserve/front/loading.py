"""Loading and unloading of models by name, as Triton's repository extension has it, on the services that there are.

Unloading takes a service away with all that workers hold of it (weights in every tier, skeleton), and remembers what it
was, however it was made: from a folder at the start, or by PUT with parameters of its own. Calls that came before are
still answered; later ones get 404 and the cure. Loading brings it back under its old parameters from its files, which
are read and checked again, and returns when the weights are on the device of every worker that is up, as after
`--preload`: so a call after it finds them warm, unless the device has no room for all. Loading what is loaded brings its
weights where they are not. A name that was never a service is looked for as a folder directly below --models-dir, so a
model that was copied there later is served without a restart. A service that DELETE has deleted is not remembered.
"""

import asyncio
from pathlib import Path

from dlmodels import repository
from dlmodels.errors import ModelError

from dlserve.errors import RequestError, ServiceNotFoundError
from dlserve.front.catalogue import Catalogue
from dlserve.front.creation import Creator
from dlserve.front.services import Registry, Service


class Loader:
    """Loads and unloads services."""

    def __init__(self, models_dir: str, registry: Registry, catalogue: Catalogue, creator: Creator) -> None:
        self._models_dir = models_dir
        self._registry = registry
        self._catalogue = catalogue
        self._creator = creator

    async def load(self, name: str) -> None:
        """Make a model ready, its weights on every device. Raises ApiError, and leaves an unloaded model unloaded."""
        name = name.lower()
        if self._registry.find_unloaded(name) is None:
            try:
                known = self._registry.find(name)
            except ServiceNotFoundError:
                known = None
            if known is not None:
                await self._creator.load(known)
                return
        async with self._catalogue.reserved(name):
            unloaded = self._registry.find_unloaded(name)
            service = self._registry.again(unloaded) if unloaded else await self._from_folder(name)
            await self._creator.introduce(service, load=True)

    async def unload(self, name: str) -> None:
        """Free all that a model holds. Harmless where it is unloaded. Raises ServiceNotFoundError."""
        if self._registry.find_unloaded(name) is not None:
            return
        await self._catalogue.unload(self._registry.find(name))

    async def _from_folder(self, name: str) -> Service:
        folder = Path(self._models_dir, name)
        named = bool(self._models_dir) and repository.is_name(name)
        if not (named and await asyncio.to_thread(folder.is_dir)):
            where = f"nor a folder of that name in {self._models_dir}" if self._models_dir else "and no --models-dir"
            raise ServiceNotFoundError(f"there is no model {name!r:.80}, {where}; POST /v2/repository/index lists them")
        try:
            spec = await asyncio.to_thread(repository.read_model, folder)
            service = self._registry.make(spec)
        except ModelError as exc:
            raise RequestError(str(exc)) from exc
        if service.name != name:
            raise RequestError(
                f"the folder {name!r} holds a model that calls itself {service.name!r}: rename one of them"
            )
        return service
