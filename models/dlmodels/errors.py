"""What can go wrong with a model or an image, before any server is involved.

    ModelError
    ├── RepositoryError        a model folder or its model.toml cannot be used as it is
    ├── UnknownArchitectureError  the zoo has no network of that name
    ├── UnknownEngineError     no engine of that name is built in
    ├── EngineUnavailableError  the engine's framework or device is not on this machine
    ├── SettingError           an engine or input parameter is unknown or has a bad value
    ├── LoadError              the weights are missing, damaged, or belong to another network
    ├── OutOfMemoryError       the device (or the machine) has no room for this batch or these weights
    ├── ForwardError           the network failed on an input
    ├── BuildError             a model folder could not be built (no network for pretrained weights, say)
    ├── ConversionError        a model cannot be brought into another format
    │   └── DisagreementError  it was, and answers otherwise there
    ├── MeasurementError       this machine's limits cannot be measured as asked
    └── ResultError            a stream's result folder cannot be read, or cannot be made into simulated models
    ImageError                 bytes that are no image, or one that the limits forbid

Each message names the thing and says what to do next.
"""


class ModelError(Exception):
    """Any failure of a model that its user can do something about."""


class RepositoryError(ModelError):
    """A model folder or its model.toml cannot be used as it is."""


class UnknownArchitectureError(ModelError):
    """The zoo has no network of that name."""


class UnknownEngineError(ModelError):
    """No engine of that name is built in."""


class EngineUnavailableError(ModelError):
    """The engine's framework or device is not on this machine."""


class SettingError(ModelError):
    """An engine or input parameter is unknown or has a bad value."""


class LoadError(ModelError):
    """The weights are missing, damaged, or belong to another network."""


class OutOfMemoryError(ModelError):
    """The device (or the machine) has no room for this batch or these weights."""


class ForwardError(ModelError):
    """The network failed on an input."""


class BuildError(ModelError):
    """A model folder could not be built."""


class ConversionError(ModelError):
    """A model cannot be brought into another format."""


class DisagreementError(ConversionError):
    """A model was brought into another format, and answers otherwise there."""


class MeasurementError(ModelError):
    """This machine's limits cannot be measured as asked."""


class ResultError(ModelError):
    """A stream's result folder cannot be read, or cannot be made into simulated models."""


class ImageError(Exception):
    """Bytes that are no image, or one that the limits forbid."""
