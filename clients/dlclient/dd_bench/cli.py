"""`dd_bench`: DeepDetect's benchmark client, for any DeepDetect-style server."""

import signal
import sys
from collections.abc import Sequence

from dlclient.dd_bench.arguments import parse
from dlclient.dd_bench.console import Console
from dlclient.dd_bench.run import conduct
from dlclient.errors import ClientError
from dlclient.local_server import terminated

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 (something was not measured), 2 (bad usage), 130 (interrupted)."""
    signal.signal(signal.SIGTERM, terminated)
    console = Console()
    try:
        options = parse(sys.argv[1:] if argv is None else argv, console.note)
        return 0 if conduct(options, console) else 1
    except ClientError as exc:
        console.note(str(exc))
        return 1
    except KeyboardInterrupt:
        console.note("interrupted; what was measured is saved, and --resume goes on with it in a --results folder")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
