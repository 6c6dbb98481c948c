"""The report of a stream run: the same requests warm and cold, compared.

`write_report(folder)` is what the load tester calls at the end of a run.
"""

from dlreport.stream.report import write_report

__all__ = ["write_report"]
