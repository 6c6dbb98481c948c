"""The options of `dlload mlperf`: those of the stream that mean the same here, LoadGen's settings, and a few of its own."""

import argparse
from dataclasses import dataclass

from dlload.errors import OptionError
from dlload.mlperf.settings import Settings, add_settings, read_settings
from dlload.options import StreamOptions, add_options, read_options

SHARED = frozenset(
    {
        "--services",
        "--mix",
        "--images",
        "--seed",
        "--protocol",
        "--api-key-file",
        "--timeout",
        "--model-dir",
        "--url-template",
        "--body-template",
        "--answer-path",
        "--tensors",
        "--input-tensor",
        "--scale",
        "--mean",
        "--std",
    }
)
"""The stream's options that mean the same here."""
SAMPLES = 1024
"""MLPerf's own for image classification (its performance_sample_count)."""
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class MlperfOptions:
    """What the user asked for."""

    stream: StreamOptions
    """The server, and what of its services and which images."""
    settings: Settings
    seed: int
    samples: int
    connections: int


def add_mlperf_options(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    # by the stream's names too: what it says of a server that is not there names them
    parser.add_argument("--target", "--host", "-H", required=True, metavar="URL", help="The server to ask.")
    add_settings(parser)
    group = parser.add_argument_group("samples and sending")
    group.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        metavar="N",
        help="Size of the library that LoadGen draws from: N pairs of a service (by --mix) and an image, drawn with --seed. "
        f"Default: {SAMPLES}.",
    )
    group.add_argument(
        "--connections",
        type=int,
        metavar="N",
        help="Connections, and so requests in flight, at most. Default: 1 for SingleStream, --samples-per-query for "
        f"MultiStream, else {CONNECTIONS}.",
    )
    group.add_argument(
        "--results",
        metavar="DIR",
        help="The result folder itself; it must be new or empty. Default: results/mlperf-DATE-TIME.",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="Let --results name the folder of an earlier run, and replace that."
    )
    add_options(parser, only=SHARED)


def read_mlperf_options(given: argparse.Namespace) -> MlperfOptions:
    """Check what was parsed. Raises OptionError."""
    settings = read_settings(given)
    for option in ("samples", "connections"):
        number = getattr(given, option)
        if number is not None and number < 1:
            raise OptionError(f"--{option} {number}: at least 1 is needed")
    defaults = {"SingleStream": 1, "MultiStream": settings.samples_per_query}
    others = argparse.ArgumentParser(add_help=False)  # the stream's options that were not asked for, at their defaults
    add_options(others)
    names = {name.removeprefix("--").replace("-", "_") for name in SHARED} | {"results", "overwrite"}
    shared = {name: value for name, value in vars(given).items() if name in names}  # a scenario of ours is none of its
    return MlperfOptions(
        stream=read_options(argparse.Namespace(**(vars(others.parse_args([])) | shared)), given.target),
        settings=settings,
        seed=given.seed,
        samples=given.samples,
        connections=given.connections or defaults.get(settings.scenario, CONNECTIONS),
    )
