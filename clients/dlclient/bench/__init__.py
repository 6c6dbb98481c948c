"""`dlbench`: how fast this machine infers, offline: suites of points, each measured in a process of its own."""
