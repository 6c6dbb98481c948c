"""A comparison of balancing policies becomes a report."""

from dlreport.balance.report import write_balance_report

__all__ = ["write_balance_report"]
