"""Reports on what it costs to be a server: the results of `make bench` and `make bench-peers`."""

from dlreport.serving.report import write_serving_report

__all__ = ["write_serving_report"]
