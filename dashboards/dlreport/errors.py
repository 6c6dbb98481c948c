"""What can go wrong while a report is made.

    ReportError
    ├── NotAResultError    the folder holds no result, or one that is damaged or of another version
    ├── OutputError        the report cannot be written where it should go
    └── InstallationError  a file that belongs to this package is missing

Each message names the thing and says what to do next.
"""


class ReportError(Exception):
    """Any failure that the person who asked for a report can do something about."""


class NotAResultError(ReportError):
    """The folder holds no result, or one that is damaged or of another version."""


class OutputError(ReportError):
    """The report cannot be written where it should go."""


class InstallationError(ReportError):
    """A file that belongs to this package is missing."""
