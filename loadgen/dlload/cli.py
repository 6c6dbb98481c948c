"""The `dlload` command: what the load tester does without Locust."""

import argparse
import logging
import sys
from collections.abc import Sequence

from dlload import plan_command
from dlload.errors import OptionError, StreamError
from dlload.mlperf import command as mlperf

_FAILURE, _USAGE, _INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 (invalid, or an error, told in one sentence), 2 (bad usage), 130 (Ctrl-C)."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        code: int = given.run(given)
    except OptionError as exc:
        print(f"dlload: {exc}", file=sys.stderr)
        return _USAGE
    except StreamError as exc:
        print(f"dlload: {exc}", file=sys.stderr)
        return _FAILURE
    except KeyboardInterrupt:
        print("dlload: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlload", description="Load image servers. The stream itself runs in Locust: locust -f loadgen/stream.py."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    mlperf.add_parser(commands)
    plan_command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
