"""What ends a stream before or during its run, each with a sentence for the person who started it.

StreamError
├── OptionError    an option (or a key of a configuration file) cannot be used as it is
├── ImagesError    there are no images to send, or one cannot be read
├── TargetError    the server is not there, lacks a service, or fails before the clock starts
├── RecordError    the result folder cannot be made or written
└── LoadGenError   MLPerf's LoadGen is not installed, or left no log that can be read
"""


class StreamError(Exception):
    """Any failure of a run that its user can do something about."""


class OptionError(StreamError):
    """An option (or a key of a configuration file) cannot be used as it is."""


class ImagesError(StreamError):
    """There are no images to send, or one cannot be read."""


class TargetError(StreamError):
    """The server is not there, lacks a service, or fails before the clock starts."""


class RecordError(StreamError):
    """The result folder cannot be made or written."""


class LoadGenError(StreamError):
    """MLPerf's LoadGen is not installed, or left no log that can be read."""
