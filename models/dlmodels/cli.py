"""`dlmodels`: list the zoo's networks, show one, build model folders of them."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dlmodels.errors import ModelError
from dlmodels.repository import MODEL_FILE, ModelSpec, check_absent, read_model
from dlmodels.zoo.catalog import CATALOG, CLASSES, ENGINES, TOP1_SOURCE, Network, find

DEFAULT_REPOSITORY = Path("models/repository")
_FAILURE, _INTERRUPTED = 1, 130  # argparse itself exits with 2

_DESCRIPTION = """\
The model zoo of dlserve: torchvision's image classifiers as model folders, which `dlserve` serves.

  dlmodels list                         what there is
  dlmodels show resnet50                all that is known of one network
  dlmodels build resnet18 vgg16         two model folders in models/repository, with random weights
  dlmodels build resnet18 --pretrained  with torchvision's trained weights

Speed and memory do not depend on what the weights are, so random ones do for measuring; they come from --seed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 (an error, told in one sentence on stderr), 2 (bad usage), 130 (Ctrl-C)."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "list":
            _list(as_json=options.json)
        elif options.command == "show":
            _show(find(options.name), options.repository)
        else:
            _build(options)
    except ModelError as exc:
        print(f"dlmodels: {exc}", file=sys.stderr)
        return _FAILURE
    except KeyboardInterrupt:
        print("dlmodels: interrupted; what was unfinished is removed", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `dlmodels list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlmodels", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list | show | build")

    listing = commands.add_parser("list", help="the networks of the zoo", description="List the networks of the zoo.")
    listing.add_argument("--json", action="store_true", help="as JSON: sizes in bytes, counts as integers")

    showing = commands.add_parser(
        "show", help="one network: size, cost, preprocessing, files", description="Show what is known of one network."
    )
    showing.add_argument("name", metavar="NAME", help="as `dlmodels list` has it")
    _add_repository(showing)

    building = commands.add_parser(
        "build",
        help="make model folders",
        description=f"Make a folder of each network: weights (safetensors), labels, {MODEL_FILE} with sizes and hashes.",
    )
    building.add_argument("names", metavar="NAME", nargs="+", help="as `dlmodels list` has it")
    _add_repository(building)
    building.add_argument(
        "--pretrained", action="store_true", help="torchvision's trained weights; needs a network once"
    )
    building.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the random weights (default: 0)")
    building.add_argument("--force", action="store_true", help="replace folders that exist")
    return parser


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repository",
        type=Path,
        default=DEFAULT_REPOSITORY,
        metavar="DIR",
        help=f"the folder of model folders (default: {DEFAULT_REPOSITORY})",
    )


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def _list(*, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.format(msgspec.json.encode([_facts(network) for network in CATALOG.values()])).decode())
        return
    print(f"{'name':<20} {'parameters':>11} {'MACs':>9} {'weights':>9} {'input':>9} {'top-1':>7}  engines")
    for network in CATALOG.values():
        side = f"{network.side}x{network.side}"
        print(
            f"{network.name:<20} {network.parameters / 1e6:>9.2f} M {network.macs / 1e9:>7.2f} G"
            f" {network.bytes / 1e6:>6.0f} MB {side:>9} {network.top1:>5.1f} %  {', '.join(ENGINES)}"
        )
    print(f"\nMACs: multiply-adds of one forward\ntop-1: {TOP1_SOURCE}")


def _facts(network: Network) -> dict[str, object]:
    return {
        "name": network.name,
        "parameters": network.parameters,
        "macs": network.macs,
        "bytes": network.bytes,
        "input": network.input,
        "classes": CLASSES,
        "top1": network.top1,
        "top1_source": TOP1_SOURCE,
        "engines": ENGINES,
    }


def _show(network: Network, repository: Path) -> None:
    spec = network.input
    _print_table(
        {
            "name": network.name,
            "parameters": f"{network.parameters:,}",
            "MACs": f"{network.macs:,} multiply-adds of one forward",
            "weights": f"{network.bytes:,} bytes in float32",
            "classes": f"{CLASSES} (ImageNet)",
            "top-1": f"{network.top1} % ({TOP1_SOURCE})",
            "input": f"{spec.width} x {spec.height} {'RGB' if spec.rgb else 'BGR'}, resized ({spec.interp}) as a whole",
            "scale": f"{spec.scale:.8f}",
            "mean": ", ".join(map(str, spec.mean)),
            "std": ", ".join(map(str, spec.std)),
            "engines": ", ".join(ENGINES),
        }
    )
    folder = repository / network.name
    print()
    if folder.is_dir():
        _print_table({"folder": str(folder), **_files(read_model(folder))})
    else:
        print(f"not built in {repository}: dlmodels build {network.name} --repository {repository}")


def _files(spec: ModelSpec) -> dict[str, str]:
    return {
        name: f"{facts.bytes:,} bytes, sha256 {facts.sha256 or 'not recorded'}" for name, facts in spec.files.items()
    }


def _print_table(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def _build(options: argparse.Namespace) -> None:
    names = list(dict.fromkeys(options.names))
    for name in names:  # what cannot work is told before minutes of work, not after
        find(name)
        if not options.force:
            check_absent(options.repository / name)
    print("loading torch", flush=True)
    from dlmodels.zoo.build import build  # noqa: PLC0415  seconds of torch, which the other commands do not need

    for name in names:
        spec = build(
            name,
            options.repository,
            seed=options.seed,
            pretrained=options.pretrained,
            force=options.force,
            progress=lambda line: print(line, flush=True),
        )
        print(f"{name}: {spec.folder} is ready", flush=True)


if __name__ == "__main__":
    sys.exit(main())
