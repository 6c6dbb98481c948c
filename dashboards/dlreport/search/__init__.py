"""The report of a search for the highest rate that meets an objective (`--find-rate`).

`write_search_report(folder)` is what the load tester calls at the end of a search.
"""

from dlreport.search.report import write_search_report

__all__ = ["write_search_report"]
