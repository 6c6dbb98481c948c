"""What dlserve's cost is compared with: the least that uvicorn and FastAPI can do with the same request and answer."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request

Message = MutableMapping[str, Any]
CLASSES = [{"prob": 0.2 - index / 100, "cat": str(index)} for index in range(5)]
ANSWER: dict[str, Any] = {
    "status": {"code": 200, "msg": "OK"},
    "head": {
        "method": "/predict",
        "service": "zero",
        "time": 0.123456,
        "timing": dict.fromkeys(("wire", "decode", "queue", "demote", "load", "forward", "post"), 0.000123),
        "cache": "warm",
        "worker": 0,
        "batch_size": 1,
    },
    "body": {"predictions": [{"uri": "0", "classes": CLASSES}]},
}
_ANSWER = msgspec.json.encode(ANSWER)


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Bare ASGI under uvicorn: read the body, send the constant answer."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


api = FastAPI()


@api.post("/")
async def predict(request: Request) -> dict[str, Any]:
    """Bare FastAPI: read the body, return the same answer as a dict."""
    await request.body()
    return ANSWER
