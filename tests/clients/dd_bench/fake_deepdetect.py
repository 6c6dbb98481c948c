"""A small DeepDetect as its sources have it: whole milliseconds, no `status` in /info, all classes without `best`, equal uris once."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.loadgen.fake_servers import Answer, Asked, FakeApi, as_json

CLASSES = 8


@dataclass
class FakeDeepDetect(FakeApi):
    """`services`: name -> its creation's body."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    time_ms: Callable[[int], float] = lambda images: 2.0 + images
    """Of a call with so many images; told cut off to whole milliseconds."""
    transform_ms: float = 0.5
    """Of each image."""
    oom_above: int | None = None
    """Calls with more images run out of memory, as libtorch says it."""
    react: Callable[[dict[str, Any], int], Answer | str | None] = lambda _call, _number: None
    """Another answer to the predict of that number, from 1; "hang up" for none."""
    statistics: dict[str, list[float]] = field(default_factory=dict)
    """Service -> calls, images, milliseconds of transform."""

    def __post_init__(self) -> None:
        super().__init__()
        self._predicts = 0
        self.most_at_once = 0
        self._at_once = 0

    def predicts(self) -> list[dict[str, Any]]:
        """The bodies of all predict calls."""
        return [json.loads(one.body) for one in self.asked if one.path == "/predict"]

    def answer(self, asked: Asked) -> Answer | None:
        """Info, services, predict."""
        path = urlsplit(asked.path).path
        if path == "/info":
            services = [self._described(name) for name in self.services]
            return as_json(200, {"head": {"method": "/info", "version": "v0.29.0", "services": services}})
        if path == "/predict":
            return self._predict(json.loads(asked.body))
        name = path.removeprefix("/services/").lower()
        if asked.method == "PUT":
            return self._create(name, asked)
        if name not in self.services:
            missing: dict[str, Any] = {"code": 404, "msg": "NotFound"}
            if asked.method == "GET":
                missing |= {"dd_code": 1002, "dd_msg": "Service Not Found"}
            return as_json(404, {"status": missing})
        if asked.method == "DELETE":
            del self.services[name], self.statistics[name]
            return _ok()
        return _ok(self._described(name))

    def _create(self, name: str, asked: Asked) -> Answer:
        if name in self.services:
            status = {"code": 409, "msg": "Conflict", "dd_code": 1014, "dd_msg": "Service already exists"}
            return as_json(409, {"status": status})
        body = json.loads(asked.body)
        if body["mllib"] == "caffe":
            status = {"code": 400, "msg": "BadRequest", "dd_code": 1006, "dd_msg": "Service Bad Request Error: removed"}
            return as_json(400, {"status": status})
        self.services[name] = body
        return as_json(201, {"status": {"code": 201, "msg": "Created"}})

    def _predict(self, call: dict[str, Any]) -> Answer | None:
        with self.lock:
            self._predicts += 1
            number = self._predicts
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            other = self.react(call, number)
        finally:
            with self.lock:
                self._at_once -= 1
        if other is not None:
            return None if isinstance(other, str) else other
        return self._predictions(call)

    def _predictions(self, call: dict[str, Any]) -> Answer:
        name, data = call["service"].lower(), call["data"]
        if name not in self.services:
            return as_json(
                404, {"status": {"code": 404, "msg": "NotFound", "dd_code": 1002, "dd_msg": "Service Not Found"}}
            )
        if self.oom_above is not None and len(data) > self.oom_above:
            said = "Libtorch error: CUDA out of memory. Tried to allocate 2.00 GiB"
            return as_json(500, {"status": {"code": 500, "msg": "InternalError", "dd_code": 500, "dd_msg": said}})
        with self.lock:
            totals = self.statistics.setdefault(name, [0, 0, 0.0])
            totals[0] += 1
            totals[1] += len(data)
            totals[2] += self.transform_ms * len(data)
        uris = [one if one.startswith("/") else str(place) for place, one in enumerate(data)]
        best = call["parameters"].get("output", {}).get("best", CLASSES)
        classes = [{"prob": 0.5, "cat": "n01 cat"}] * best
        found = [{"uri": uri, "classes": classes, "images": []} for uri in dict.fromkeys(uris)]
        head = {"method": "/predict", "service": name, "time": float(int(self.time_ms(len(data))))}
        return as_json(200, {"status": {"code": 200, "msg": "OK"}, "head": head, "body": {"predictions": found}})

    def _described(self, name: str) -> dict[str, Any]:
        body = self.services[name]
        given = body.get("parameters", {})
        calls, images, transform_ms = self.statistics.setdefault(name, [0, 0, 0.0])
        return {
            "name": name,
            "mllib": body.get("mllib", "torch"),
            "mltype": "classification",
            "repository": body.get("model", {}).get("repository", ""),
            "predict": True,
            "parameters": {
                "input": given.get("input", {}),
                "mllib": {"gpu": given.get("mllib", {}).get("gpu", False), "gpuid": [0]},
            },
            "service_stats": {
                "inference_count": images,
                "predict_count": calls,
                "total_transform_duration_ms": transform_ms,
            },
        }


def _ok(body: dict[str, Any] | None = None) -> Answer:
    return as_json(200, {"status": {"code": 200, "msg": "OK"}, **({} if body is None else {"body": body})})
