"""What DeepDetect's own dd_bench sends and reads, unmodified: its calls one by one, with its quirks. Not its code."""

from collections.abc import Sequence
from typing import Any

import httpx


class Original:
    """Of one service on one server. Every HTTP error is raised, as there."""

    def __init__(
        self, client: httpx.Client, service: str, repository: str, images: Sequence[str], **mllib: Any
    ) -> None:
        self._client = client
        self._service = service
        self._repository = repository
        self._images = images
        self._mllib = mllib

    def create(self, most: int) -> None:
        """PUT, for the engine that is its default."""
        sizes = {"connector": "image", "width": 224, "height": 224, "bw": False, "rgb": False}
        body = {
            "description": "image classification service",
            "mllib": "caffe",
            "type": "supervised",
            "model": {"repository": self._repository},
            "parameters": {
                "input": {**sizes, "histogram_equalization": False, "scale": 1},
                "mllib": {
                    "nclasses": 1000, "datatype": "fp32", "readEngine": True, "writeEngine": True, "maxBatchSize": most,
                    "maxWorkspaceSize": 1024, "gpu": False, "gpuid": 0, **self._mllib,
                },
                "output": {},
            },
        }  # fmt: skip
        self._do("PUT", f"/services/{self._service}", body)

    def rung(self, size: int, passes: int) -> tuple[float, float]:
        """Milliseconds of an image, and of its transform."""
        times = [self.predict(size)]
        before = self._transform_ms()
        times = [self.predict(size) for _ in range(passes)]
        after = self._transform_ms()
        return sum(times) / passes / size, (after - before) / passes / size

    def predict(self, size: int) -> float:
        """The server's milliseconds; with `interp` null, as it says by default."""
        body = {
            "service": self._service,
            "parameters": {
                "input": {"width": 224, "height": 224, "interp": None},
                "mllib": {"gpu": False, "gpuid": 0},
                "output": {},
            },
            "data": list(self._images[:size]),
        }
        return float(self._do("POST", "/predict", body)["head"]["time"])

    def delete(self) -> None:
        """DELETE."""
        self._do("DELETE", f"/services/{self._service}")

    def _transform_ms(self) -> float:
        stats = self._do("GET", f"/services/{self._service}")["body"]["service_stats"]
        return float(stats["total_transform_duration_ms"])

    def _do(self, method: str, path: str, body: object = None) -> Any:
        answer = self._client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()
