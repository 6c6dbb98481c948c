"""Ray Serve: python ray_peer.py PORT. Two replicas, its default proxy (one per node); Starlette's request, its body read."""

import signal
import sys
from typing import Any

import ray
from answer import ANSWER
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.1})
class Zero:
    """Takes bytes, computes nothing."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The constant answer."""
        assert len(await request.body())
        return ANSWER


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Zero.bind())
    print("peer ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
