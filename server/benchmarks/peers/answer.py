"""What every peer's zero-cost model answers: as much as dlserve's does."""

from typing import Any

ANSWER: dict[str, Any] = {
    "predictions": [{"uri": "0", "classes": [{"prob": 0.2 - index / 100, "cat": str(index)} for index in range(5)]}]
}
