"""`dd_bench`: DeepDetect's ladder of batch sizes against any DeepDetect-style server, option by option, and what it lacked."""
