"""The server without processes: its own policies, batcher and cache on a clock that is a number.

Nothing here decides anything: what is chosen, batched, loaded and evicted is chosen by the same code that serves. So
thousands of workers and hours of load take seconds, the same input gives the same answers, and queueing theory can check
the whole (tests/server/test_simulation.py). Only models of the `simulated` engine run here. As a command,
`python -m dlserve.simulation`, it takes a Task as JSON on standard input and writes an Account as JSON.
"""
