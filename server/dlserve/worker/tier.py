"""The books of one tier: whose weights are there, and what they take of its budget."""

from dlserve.messages import Tier


class Books:
    """Of one tier."""

    def __init__(self, tier: Tier, budget_bytes: int) -> None:
        self.tier = tier
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._held: dict[int, int] = {}
        """Service -> bytes."""

    def __contains__(self, service: int) -> bool:
        return service in self._held

    @property
    def services(self) -> tuple[int, ...]:
        """Those whose weights are there."""
        return tuple(self._held)

    def size_of(self, service: int) -> int:
        """The bytes of one that is there."""
        return self._held[service]

    def lacking(self, size: int) -> int:
        """Bytes that must leave before so many fit; below 0: they fit, and so many more."""
        return self.used_bytes + size - self.budget_bytes

    def put(self, service: int, size: int) -> None:
        """Its weights are there now."""
        self._held[service] = size
        self.used_bytes += size

    def take(self, service: int) -> int:
        """Its weights are there no more; their bytes."""
        size = self._held.pop(service)
        self.used_bytes -= size
        return size

    def check(self, known: set[int]) -> None:
        """Raise AssertionError if they do not balance; for tests."""
        used = sum(self._held.values())
        if used != self.used_bytes:
            raise AssertionError(f"{self.tier}: {self.used_bytes} bytes are booked, the models take {used}")
        if used > self.budget_bytes:
            raise AssertionError(f"{self.tier}: {used} bytes are used of a budget of {self.budget_bytes}")
        if strangers := set(self._held) - known:
            raise AssertionError(f"{self.tier}: weights of unknown services are there: {strangers}")
