"""`dlmodels`: list the zoo's networks, show one, build model folders of them."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from dlmodels import limits, profile
from dlmodels.conversion import command as conversion
from dlmodels.errors import ModelError
from dlmodels.repository import MODEL_FILE, ModelSpec, check_absent, read_model
from dlmodels.zoo.build import build, check_trained
from dlmodels.zoo.catalog import CATALOG, CLASSES, Network, find
from dlmodels.zoo.presets import PRESETS, preset

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  argparse has no public name for it

DEFAULT_REPOSITORY = Path("models/repository")
_FAILURE, _INTERRUPTED = 1, 130  # argparse itself exits with 2
_SOURCES = MappingProxyType(
    {
        "torchvision": "torchvision, under this name",
        "gluon": "the Gluon model zoo of MXNet, without the prefix",
        "dlserve": "dlserve (dlmodels/zoo/families)",
    }
)

_DESCRIPTION = """\
The model zoo of dlserve: image classifiers as model folders, which `dlserve` serves.

  dlmodels list                         what there is
  dlmodels list --preset stream-2018    the networks that a published benchmark ran
  dlmodels show resnet50                all that is known of one network
  dlmodels build resnet18 vgg16         two model folders in models/repository, with random weights
  dlmodels build --preset stream-2018   a folder for each network of the preset
  dlmodels build resnet18 --pretrained  with torchvision's trained weights
  dlmodels convert resnet18 --to onnx   the same model for another engine

Speed and memory do not depend on what the weights are, so random ones do for measuring; they come from --seed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 (an error, told in one sentence on stderr), 2 (bad usage), 130 (Ctrl-C)."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    _add_list(commands)
    _add_show(commands)
    _add_build(commands)
    conversion.add_parser(commands, DEFAULT_REPOSITORY)
    limits.add_parser(commands)
    profile.add_parser(commands)
    return parser


def _add_list(commands: "Commands") -> None:
    parser = commands.add_parser("list", help="the networks of the zoo", description="List the networks of the zoo.")
    parser.add_argument("--json", action="store_true", help="as JSON: sizes in bytes, counts as integers")
    _add_preset(parser, "only these networks")
    parser.set_defaults(run=_list)


def _add_show(commands: "Commands") -> None:
    parser = commands.add_parser(
        "show", help="one network: size, cost, preprocessing, files", description="Show what is known of one network."
    )
    parser.add_argument("name", metavar="NAME", help="as `dlmodels list` has it")
    _add_repository(parser)
    parser.set_defaults(run=_show)


def _add_build(commands: "Commands") -> None:
    parser = commands.add_parser(
        "build",
        help="make model folders",
        description=f"Make a folder of each network: weights, labels, {MODEL_FILE} with sizes and hashes.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="as `dlmodels list` has it")
    _add_preset(parser, "these networks, with any that are named")
    _add_repository(parser)
    parser.add_argument("--pretrained", action="store_true", help="torchvision's trained weights; needs a network once")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the random weights (default: 0)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace folders that exist")
    existing.add_argument("--missing", action="store_true", help="leave folders that exist as they are")
    parser.set_defaults(run=_build, usage_error=parser.error)


def _add_preset(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--preset", metavar="NAME", help=f"{what}: {', '.join(PRESETS)}")


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


def _list(options: argparse.Namespace) -> None:
    networks = preset(options.preset) if options.preset else tuple(CATALOG.values())
    if options.json:
        print(msgspec.json.format(msgspec.json.encode([_facts(network) for network in networks])).decode())
        return
    print(f"{'name':<22} {'parameters':>11} {'MACs':>9} {'weights':>8} {'input':>8} {'top-1':>7}  engines")
    for network in networks:
        top1 = "" if network.top1 is None else f"{network.top1:.1f} %"
        print(
            f"{network.name:<22} {network.parameters / 1e6:>9.2f} M {network.macs / 1e9:>7.2f} G"
            f" {network.bytes / 1e6:>5.0f} MB {network.side:>4}x{network.side:<3} {top1:>7}  {', '.join(network.engines)}"
        )
    total = sum(network.bytes for network in networks)
    print(f"\n{len(networks)} networks, {total / 1e9:.1f} GB of weights")
    print("MACs: multiply-adds of one forward. top-1: as published; `dlmodels show NAME` says by whom")
    print("engines: the first is built for; the others after `dlmodels convert`")


def _facts(network: Network) -> dict[str, object]:
    return {
        "name": network.name,
        "source": network.source,
        "parameters": network.parameters,
        "macs": network.macs,
        "bytes": network.bytes,
        "input": network.input,
        "classes": CLASSES,
        "top1": network.top1,
        "top1_source": network.top1_source,
        "engine": network.engine,
        "engines": network.engines,
        "note": network.note,
    }


def _show(options: argparse.Namespace) -> None:
    network = find(options.name)
    spec = network.input
    _print_table(
        {
            "name": network.name,
            "source": _SOURCES[network.source],
            "parameters": f"{network.parameters:,}",
            "MACs": f"{network.macs:,} multiply-adds of one forward",
            "weights": f"{network.bytes:,} bytes in float32",
            "classes": f"{CLASSES} (ImageNet)",
            "top-1": "not published" if network.top1 is None else f"{network.top1} % ({network.top1_source})",
            "input": f"{spec.width} x {spec.height} {'RGB' if spec.rgb else 'BGR'}, resized ({spec.interp}) as a whole",
            "scale": f"{spec.scale:.8f}",
            "mean": ", ".join(map(str, spec.mean)),
            "std": ", ".join(map(str, spec.std)) or "1",
            "engines": f"{network.engine}; after `dlmodels convert` also {', '.join(network.engines[1:])}",
        }
        | ({"note": network.note} if network.note else {})
    )
    folder = options.repository / network.name
    print()
    if folder.is_dir():
        _print_table({"folder": str(folder), **_files(read_model(folder))})
    else:
        print(f"not built in {options.repository}: dlmodels build {network.name} --repository {options.repository}")


def _files(spec: ModelSpec) -> dict[str, str]:
    return {
        name: f"{facts.bytes:,} bytes, sha256 {facts.sha256 or 'not recorded'}" for name, facts in spec.files.items()
    }


def _print_table(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


def _build(options: argparse.Namespace) -> None:
    chosen = [*(preset(options.preset) if options.preset else ()), *map(find, options.names)]
    if not chosen:
        options.usage_error("name the networks to build, or a --preset")
    networks = list(dict.fromkeys(chosen))
    for network in networks:  # what cannot work is told before minutes of work, not after
        if options.pretrained:
            check_trained(network)
        if not options.force and not options.missing:
            check_absent(options.repository / network.name)
    for network in networks:
        if options.missing and (options.repository / network.name).exists():
            print(f"{network.name}: is there", flush=True)
            continue
        print(f"{network.name}: loading {network.engine}", flush=True)
        spec = build(
            network.name,
            options.repository,
            seed=options.seed,
            pretrained=options.pretrained,
            force=options.force,
            progress=lambda line: print(line, flush=True),
        )
        print(f"{network.name}: {spec.folder} is ready", flush=True)


if __name__ == "__main__":
    sys.exit(main())
