"""MLServer's runtime for the zero-cost model; settings.json and model-settings.json are written by peers_bench.py."""

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Zero(MLModel):
    """Takes one BYTES tensor, computes nothing."""

    async def load(self) -> bool:
        """Nothing to load."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Five classes of equal length to dlserve's."""
        assert payload.inputs[0].data
        labels = [f"{0.2 - index / 100:.6f}:{index}" for index in range(5)]
        output = ResponseOutput(name="classes", shape=[5], datatype="BYTES", data=labels)
        return InferenceResponse(model_name=self.name, outputs=[output])
