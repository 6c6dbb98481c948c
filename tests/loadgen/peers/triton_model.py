# mypy: ignore-errors
# It runs in another environment, whose packages are not in ours.
"""The colours as models of Triton's Python backend: which input one has is in its config.pbtxt."""

import io

import numpy as np
import triton_python_backend_utils as pb_utils
from colours import scores
from PIL import Image


class TritonPythonModel:
    """Triton calls `execute` with the requests of a batch."""

    def execute(self, requests: list) -> list:
        """One response for each."""
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            if given.dtype == object:
                files = [Image.open(io.BytesIO(file)).convert("RGB").resize((32, 32)) for file in given.ravel()]
                pictures = np.stack([np.asarray(file) for file in files])
            elif given.dtype == np.float32:  # planes of 0..1
                pictures = given.transpose(0, 2, 3, 1) * 255
            else:
                pictures = given
            output = pb_utils.Tensor("scores", scores(pictures))
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
