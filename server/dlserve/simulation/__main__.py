"""`python -m dlserve.simulation`: a Task as JSON on standard input, an Account as JSON on standard output.

With `--policies` it only says which policies there are, one a line.
"""

import sys

import msgspec

from dlserve.config import POLICIES
from dlserve.errors import StartError
from dlserve.simulation.account import Task
from dlserve.simulation.run import read_server, simulate


def main() -> int:
    """The exit status: 0, or 2 where the task cannot be done; why is said on standard error."""
    if sys.argv[1:] == ["--policies"]:
        print(*POLICIES, sep="\n")
        return 0
    try:
        task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
        account = simulate(read_server(task), task.arrivals, warm_up=task.warm_up)
    except msgspec.DecodeError as exc:
        print(f"dlserve.simulation: standard input is no task: {exc}", file=sys.stderr)
        return 2
    except StartError as exc:
        print(f"dlserve.simulation: {exc}", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(account))
    return 0


if __name__ == "__main__":
    sys.exit(main())
