"""What each of several results is called beside the others. Pure functions."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dlreport.errors import ReportError


def labels(folders: Sequence[Path], hosts: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The names that were given, else the machines'; results of one machine are told apart by their folders.

    Raises ReportError where the given names are not one for each result, or not different.
    """
    if given is not None:
        if len(given) != len(folders) or len(set(given)) != len(given) or not all(given):
            raise ReportError(
                f"--names has {', '.join(given) or 'nothing'} for {len(folders)} results; give each one a name of its own, in their order"
            )
        return tuple(given)
    shared = {host for host, number in Counter(hosts).items() if number > 1}
    named = [
        f"{host} ({folder.resolve().name})" if host in shared else host
        for folder, host in zip(folders, hosts, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for name in named:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return tuple(unique)
