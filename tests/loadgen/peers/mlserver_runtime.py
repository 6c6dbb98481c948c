# mypy: ignore-errors
# It runs in another environment, whose packages are not in ours.
"""The colours as runtimes of MLServer: one takes encoded files (BYTES), one UINT8 pixels, one FP32 planes."""

import io

import numpy as np
from colours import COLOURS, scores
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from PIL import Image


class Colours(MLModel):
    """What it takes is what its metadata say."""

    async def load(self) -> bool:
        """Nothing to load but a name that a request without a load would lack."""
        self._colours = COLOURS
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One output, (n, 5)."""
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            pictures = np.stack([_decoded(file) for file in Base64Codec.decode_input(given)])
        else:
            pictures = NumpyCodec.decode_input(given)
        if given.datatype == "FP32":  # planes of 0..1
            pictures = pictures.transpose(0, 2, 3, 1) * 255
        found = scores(pictures)
        assert found.shape[1] == len(self._colours)
        output = NumpyCodec.encode_output("scores", found)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])


def _decoded(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB").resize((32, 32)))
