"""`dlload plan`: draw a plan without sending it, for `locust -f loadgen/stream.py --plan`, here or elsewhere."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dlload.errors import OptionError
from dlload.options import add_options, read_options
from dlload.pictures import open_album
from dlload.plan import Plan

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  argparse has no public name for it

_DESCRIPTION = """\
Draw what a run of the stream would send (which model, which image, when) and write it as a plan.jsonl:

  dlload plan --services resnet18,vgg16 --mix zipf:1.1 --rate 50 --requests 3000 --output plan.jsonl
  locust -f loadgen/stream.py --headless --plan plan.jsonl

The options mean what they mean to the stream: the same ones draw the same plan.
"""
OPTIONS = frozenset(
    {
        *("--services", "--mix", "--images", "--requests", "--seed", "--batch-size", "--rate", "--arrivals"),
        *("--step-time", "--duration", "--intervals", "--think"),
        *("--seed-schedule", "--seed-models", "--seed-images", "--seed-think"),
    }
)
"""The stream's options that a plan is drawn from."""


def add_parser(commands: "Commands") -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "plan",
        help="draw a plan without sending it",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="The plan.jsonl to write.")
    add_options(parser, only=OPTIONS)
    parser.set_defaults(run=plan)


def plan(given: argparse.Namespace) -> int:
    """Draw it and write it; the exit status. Raises StreamError."""
    drawn = draw_plan(given)
    try:
        given.output.write_bytes(drawn.encode())
    except OSError as exc:
        raise OptionError(f"--output {given.output}: {exc.strerror}; name a file in a folder that is there") from exc
    print(f"{given.output}: {drawn.header.requests} requests ({drawn.header.load}), sha256 {drawn.sha256()}")
    return 0


def draw_plan(given: argparse.Namespace) -> Plan:
    """What the stream would draw from these options. Raises StreamError."""
    from dlload.run import make_plan  # noqa: PLC0415  it brings gevent, which the other commands do without

    rest = argparse.ArgumentParser(add_help=False)
    add_options(rest)
    options = read_options(argparse.Namespace(**(vars(rest.parse_args([])) | vars(given))), "http://127.0.0.1:8080")
    if not options.services:
        raise OptionError("--services: name them, there is no server here to ask which it has")
    return make_plan(options, options.services, open_album(options.images).names)
