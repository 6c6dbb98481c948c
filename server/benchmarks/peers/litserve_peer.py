"""LitServe: python litserve_peer.py PORT. Two worker processes, its default HTTP process; the body comes as FastAPI's bytes."""

import sys
from typing import Annotated, Any

import litserve
from answer import ANSWER
from fastapi import Body


class Zero(litserve.LitAPI):
    """Takes bytes, computes nothing."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """The body as it came."""
        return request

    def predict(self, x: bytes) -> dict[str, Any]:
        """The constant answer."""
        assert len(x)
        return ANSWER

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Zero(), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
