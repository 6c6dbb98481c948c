"""The report of a bench (`dlbench`, `dd_bench`): a page, pictures and tables of whatever its points asked.

`write_bench_report(folder)` is what `dlreport` calls for a result folder whose run.json has the kind "bench".
"""

from dlreport.bench.report import write_bench_report

__all__ = ["write_bench_report"]
