"""Energy that a machine's processors have used, by counters that Intel and AMD give and Linux shows: RAPL."""

from dataclasses import dataclass
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class _Counter:
    name: str
    path: Path
    range_uj: int
    """It starts again from 0 beyond this."""


class Rapl:
    """The energy of all processor packages, and of the memory where that has a counter of its own, since `start`.

    `unreadable`: why counters that are there cannot be read; "" where there are none, or all can. `folder`: for tests.
    """

    def __init__(self, folder: Path = _POWERCAP) -> None:
        self._folder = folder
        self._counters: list[_Counter] = []
        self._last_uj: list[int] = []
        self._sum_uj = 0
        self.unreadable = ""

    @property
    def source(self) -> str:
        """What is counted: "RAPL package-0 + dram"; "" nothing."""
        return "RAPL " + " + ".join(counter.name for counter in self._counters) if self._counters else ""

    def start(self) -> None:
        """Find the counters and begin at 0 joules."""
        try:
            self._counters = self._find()
            self._last_uj = [int(counter.path.read_text()) for counter in self._counters]
        except (OSError, ValueError) as exc:
            self._counters = []
            self.unreadable = f"{self._folder}/intel-rapl:*/energy_uj cannot be read ({exc})"

    def joules(self) -> float | None:
        """Since `start`; None: no counter. To be asked at least every few minutes, as counters start again from 0."""
        if not self._counters:
            return None
        now_uj = [int(counter.path.read_text()) for counter in self._counters]
        for counter, last, now in zip(self._counters, self._last_uj, now_uj, strict=True):
            self._sum_uj += now - last if now >= last else now - last + counter.range_uj
        self._last_uj = now_uj
        return self._sum_uj / 1e6

    def _find(self) -> list[_Counter]:
        """Of each package, and of the memory beside it; "core" and "uncore" are in the package, "psys" is more than that."""
        found = []
        for zone in sorted(self._folder.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                found.append(_Counter(name, zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())))
        return found
