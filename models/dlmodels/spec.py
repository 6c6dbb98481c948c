"""What a model is, as plain data that crosses process boundaries."""

import msgspec

from dlmodels.images import InputSpec

MODEL_FILE = "model.toml"
CACHE_FOLDER = ".cache"
"""In a model's folder: what an engine made of the model for itself, and could make again."""


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What model.toml says of one file, checked before its content is used."""

    sha256: str
    """"" where nothing is known but the size (a folder without model.toml)."""
    bytes: int


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that an engine must know to run a model; plain data that crosses process boundaries.

    `folder` is absolute ("" for a simulated model without files); `weights` and `labels` are file names in it.
    """

    name: str
    engine: str
    folder: str = ""
    architecture: str = ""
    """A zoo name; "" where the files carry their own graph."""
    graph: str = ""
    """Name of the file that describes the network, where that is not the weights file (-symbol.json, .xml, .prototxt)."""
    weights: str = ""
    classes: int = 1000
    input: InputSpec = InputSpec()
    labels: str = ""
    """Name of the labels file (corresp.txt); "" where there is none: the label is then the index."""
    multi_label: bool = False
    """Independent classes: sigmoid in place of softmax."""
    files: dict[str, FileFacts] = {}
    parameters: dict[str, object] = {}
    """The engine's own settings, by its `settings_type` (the profile of a simulated model)."""

    @property
    def weights_bytes(self) -> int:
        """Size of the weights file, an estimate of what the device must hold; 0 where unknown."""
        facts = self.files.get(self.weights)
        return facts.bytes if facts else 0
