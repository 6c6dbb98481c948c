"""The names of the eviction policies: an option's values, known to both kinds of process."""

from typing import Literal, get_args

Eviction = Literal["value", "lru"]
EVICTIONS: tuple[Eviction, ...] = get_args(Eviction)
