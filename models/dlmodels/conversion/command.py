"""`dlmodels convert`: a model folder into another format."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dlmodels.conversion.agreement import TOLERANCE
from dlmodels.conversion.convert import Request, convert
from dlmodels.conversion.routes import Target, table
from dlmodels.errors import ConversionError
from dlmodels.repository import is_name

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  argparse has no public name for it


def add_parser(commands: "Commands", repository: Path) -> None:
    """The options of `dlmodels convert`; `repository`: the usual folder of model folders."""
    parser = commands.add_parser(
        "convert",
        help="a model folder in another format, checked",
        description=f"Make a model folder of another format, with the same input, classes and labels. It is kept only if both answer"
        f" alike on real photographs, alone and as a batch. {table()}.",
    )
    parser.add_argument("model", metavar="MODEL", help="name of a model in the repository, or path of a model folder")
    parser.add_argument("--to", choices=get_args(Target), required=True, help="the format to make")
    parser.add_argument(
        "--repository",
        type=Path,
        default=repository,
        metavar="DIR",
        help=f"the folder of model folders, where the new one is made too (default: {repository})",
    )
    parser.add_argument("--name", default="", help="of the new model (default: MODEL-FORMAT)")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set that torch writes (default: 17)")
    parser.add_argument("--force", action="store_true", help="replace a folder that exists")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="P",
        help=f"by how much a probability may differ (default: {TOLERANCE})",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    request = Request(
        folder=_folder(options.model, options.repository),
        target=options.to,
        repository=options.repository,
        name=options.name,
        opset=options.opset,
        force=options.force,
        tolerance=options.tolerance,
    )
    done = convert(request, lambda line: print(line, flush=True))
    print(
        f"{done.spec.name}: {done.spec.folder} is ready; the same class for all of {done.agreement.pictures} answers,"
        f" probabilities at most {done.agreement.largest_difference:.1e} apart",
        flush=True,
    )


def _folder(model: str, repository: Path) -> Path:
    """A name means a folder of the repository, all else a path."""
    folder = repository / model if is_name(model) and (repository / model).is_dir() else Path(model)
    if not folder.is_dir():
        raise ConversionError(
            f"there is no model {model!r}, neither in {repository} nor as a folder: see --repository, or build it with"
            " dlmodels build"
        )
    return folder


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability between 0 and 1")
    return value
