"""PyTriton: python pytriton_peer.py PORT. One model instance behind Triton's HTTP endpoint, batching off; a BYTES tensor in."""

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch
def infer(image: Any) -> dict[str, Any]:
    """The constant answer: five probabilities."""
    return {"probabilities": np.tile(np.float32([0.2, 0.19, 0.18, 0.17, 0.16]), (len(image), 1))}


if __name__ == "__main__":
    port = int(sys.argv[1])
    settings = TritonConfig(http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    with Triton(config=settings) as triton:
        triton.bind(
            model_name="zero",
            infer_func=[infer, infer],
            inputs=[Tensor(name="image", dtype=np.bytes_, shape=(1,))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(5,))],
            config=ModelConfig(batching=True, max_batch_size=8),
        )
        triton.serve()
