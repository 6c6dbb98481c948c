"""BentoML: bentoml serve bentoml_peer:Zero. Two workers; the body is the root input, bytes as they come."""

from typing import Annotated, Any

import bentoml
from answer import ANSWER
from bentoml.validators import ContentType


@bentoml.service(workers=2, metrics={"enabled": True})
class Zero:
    """Takes bytes, computes nothing."""

    @bentoml.api
    def predict(self, body: Annotated[bytes, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """The constant answer."""
        assert len(body)
        return ANSWER
