"""The models that the server starts with: read before anything runs, only to fail early and clearly."""

import logging
from pathlib import Path

from dlmodels.errors import ModelError
from dlmodels.repository import ModelSpec, survey

from dlserve.config import MIB, Config
from dlserve.errors import StartError

log = logging.getLogger(__name__)


def read(config: Config) -> tuple[ModelSpec, ...]:
    """The models of the models folder; each front end reads it for itself later. Raises StartError saying what to change."""
    specs = _survey(config.models_dir)
    names = {spec.name for spec in specs}
    for option, asked in (("--preload", config.preload), ("--pin", config.pinned)):
        for name in asked:
            if name not in names and (option, name) != ("--preload", "all"):
                raise StartError(
                    f"{option} {name}: there is no such model; there are: {', '.join(sorted(names)) or 'none'}"
                )
    _check_fit(specs, config)
    return specs


def _survey(folder: str) -> tuple[ModelSpec, ...]:
    if not folder:
        return ()
    try:
        found = survey(Path(folder))
    except ModelError as exc:
        raise StartError(str(exc)) from exc
    for skipped in found.skipped:
        log.warning("model folder %s is no service: %s", skipped.folder, skipped.reason)
    return found.models


def _check_fit(specs: tuple[ModelSpec, ...], config: Config) -> None:
    """Every model fits in a worker's cache, beside those that are pinned there."""
    budget = min(worker.budget_bytes for worker in config.workers)
    pinned = {spec.name: spec.weights_bytes for spec in specs if spec.name in config.pinned}
    for spec in specs:
        beside = sum(size for name, size in pinned.items() if name != spec.name)
        if spec.weights_bytes + beside > budget:
            pins = f" beside {beside / MIB:.0f} MiB that --pin keeps there" if beside else ""
            raise StartError(
                f"not enough memory: model {spec.name} has {spec.weights_bytes / MIB:.0f} MiB of weights, a worker's "
                f"cache holds {budget / MIB:.0f} MiB{pins}; raise --cache-mb, use fewer --workers, or move the model "
                "away"
            )
