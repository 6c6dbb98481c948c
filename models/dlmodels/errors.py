"""What can go wrong with a model or an image, before any server is involved.

    ModelError
    ├── RepositoryError        a model folder or its model.toml cannot be used as it is
    ├── UnknownArchitectureError  the zoo has no network of that name
    ├── EngineUnavailableError  the engine's framework or device is not on this machine
    ├── SettingError           an engine parameter is unknown or has a bad value
    ├── LoadError              the weights are missing, damaged, or belong to another network
    ├── OutOfMemoryError        the device (or the machine) has no room for this batch or these weights
    └── ForwardError           the network failed on an input
    ImageError                 bytes that are no image, or one that the limits forbid

Each message names the thing and says what to do next.
"""


class ModelError(Exception):
    """Any failure of a model that its user can do something about."""


class RepositoryError(ModelError):
    """A model folder or its model.toml cannot be used as it is."""


class UnknownArchitectureError(ModelError):
    """The zoo has no network of that name."""


class EngineUnavailableError(ModelError):
    """The engine's framework or device is not on this machine."""


class SettingError(ModelError):
    """An engine parameter is unknown or has a bad value."""


class LoadError(ModelError):
    """The weights are missing, damaged, or belong to another network."""


class OutOfMemoryError(ModelError):
    """The device (or the machine) has no room for this batch or these weights."""


class ForwardError(ModelError):
    """The network failed on an input."""


class ImageError(Exception):
    """Bytes that are no image, or one that the limits forbid."""
