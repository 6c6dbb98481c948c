"""Making the model folder of a zoo network: the files of its framework, and model.toml."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dlmodels.errors import BuildError
from dlmodels.repository import ModelSpec, check_absent, read_model, write_model
from dlmodels.zoo.catalog import find
from dlmodels.zoo.network import Network

if TYPE_CHECKING:
    from dlmodels.zoo.pretrained import Fetch


def build(
    name: str,
    repository: Path,
    *,
    seed: int = 0,
    pretrained: bool = False,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    fetch: "Fetch | None" = None,
) -> ModelSpec:
    """Build the folder `repository`/`name`; it appears only when it is complete. `progress` gets a line for each step.

    `fetch` brings trained weights (by default, over the network). Raises UnknownArchitectureError, EngineUnavailableError (the
    network's framework is not installed), or BuildError: the folder exists (and no `force`), cannot be written, or there are
    no trained weights to be had.
    """
    network = find(name)
    folder = repository.absolute() / name
    if pretrained:
        check_trained(network)
    if not force:
        check_absent(folder)
    unfinished = folder.with_name(f".{name}.{os.getpid()}")  # hidden: no scan takes it for a model
    try:
        unfinished.mkdir(parents=True)
        write_model(unfinished, _files(network, unfinished, seed, pretrained, progress, fetch))
        _replace(folder, unfinished)
    except OSError as exc:
        raise BuildError(f"{folder} cannot be written ({exc}): choose another --repository, or free space") from exc
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return read_model(folder)


def check_trained(network: Network) -> None:
    """Raises BuildError where nobody offers trained weights that fit."""
    if not network.trained:
        raise BuildError(
            f"there are no trained weights of {network.name} to be fetched: leave out --pretrained for random ones,"
            " or take a network of torchvision (`dlmodels list`)"
        )


def _files(
    network: Network,
    folder: Path,
    seed: int,
    pretrained: bool,
    progress: Callable[[str], None],
    fetch: "Fetch | None",
) -> ModelSpec:
    # Only the framework that is needed is imported: each takes seconds.
    if network.source == "gluon":
        from dlmodels.zoo.gluon import build_gluon  # noqa: PLC0415  see above

        progress(f"{network.name}: drawing {network.parameters / 1e6:.1f} million random weights, seed {seed}")
        return build_gluon(network, folder, seed)
    from dlmodels.zoo.torch_folder import build_torch  # noqa: PLC0415  see above

    return build_torch(network, folder, seed, pretrained=pretrained, progress=progress, fetch=fetch)


def _replace(folder: Path, finished: Path) -> None:
    """Put the finished folder in its place; what was there goes only when the new one is there."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)
