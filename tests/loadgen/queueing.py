"""What theory says of a queue with Poisson arrivals, constant service times and c servers (M/D/c), and a simulation of it.

The truth that the load tester is checked against: a simulated engine of constant forward time behind one queue is an M/D/c.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEFT_OUT = 1e-12
"""States of the queue are left out from where they are rarer than about this."""


def simulate(
    rate_per_s: float, service_s: float, servers: int, requests: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrival and response times in seconds of `requests` requests to a queue that begins empty, first come first served.

    With equal service times nobody overtakes, so request n starts when it is there and request n - c has left: c
    interleaved single-server queues, each by Lindley's recursion in closed form (its running maximum).
    """
    arrivals = np.cumsum(generator.exponential(1 / rate_per_s, requests))
    responses = np.empty(requests)
    for server in range(servers):
        own = arrivals[server::servers]
        work = service_s * np.arange(own.size)
        starts = np.maximum.accumulate(own - work) + work
        responses[server::servers] = starts + service_s - own
    return arrivals, responses


def response_within(bound_s: float, rate_per_s: float, service_s: float, servers: int) -> float:
    """P(response time <= bound) in an M/D/c in equilibrium.

    The waiting time's distribution is Franx's (A simple solution for the M/D/c waiting time distribution, Operations Research
    Letters 29, 2001): for (m - 1) D <= x < m D,
    P(W <= x) = exp(-a) * sum over j < mc of Q[mc - 1 - j] * a^j / j!, a = rate * (m D - x), where Q[k] is the chance that at
    most k requests wait. All of its terms are positive, unlike those of Crommelin's series (1932), which cancel.
    """
    wait_s = bound_s - service_s
    if wait_s < -1e-12:
        return 0.0
    wait_s = max(wait_s, 0.0)
    pieces = math.floor(wait_s / service_s + 1e-9) + 1
    mean = rate_per_s * max(0.0, pieces * service_s - wait_s)
    waiting = _at_most_waiting(round(rate_per_s * service_s, 12), servers)
    total = 0.0
    term = math.exp(-mean)
    for number in range(pieces * servers):
        total += float(waiting[min(pieces * servers - 1 - number, waiting.size - 1)]) * term
        term *= mean / (number + 1)
    return min(total, 1.0)


def response_percentile(fraction: float, rate_per_s: float, service_s: float, servers: int) -> float:
    """The percentile of the response time in seconds; infinite from the rate on at which the queue grows without bound."""
    if rate_per_s * service_s >= servers:
        return math.inf
    low, high = service_s, 2 * service_s
    if response_within(low, rate_per_s, service_s, servers) >= fraction:
        return service_s
    while response_within(high, rate_per_s, service_s, servers) < fraction:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if response_within(middle, rate_per_s, service_s, servers) < fraction:
            low = middle
        else:
            high = middle
    return high


def capacity(fraction: float, bound_s: float, service_s: float, servers: int) -> float:
    """The highest Poisson rate, per second, at which that percentile of the response time is at most the bound.

    To 4 digits, and never above 99.5 % of what the servers can do: beyond that the equilibrium is of no use.
    """
    if bound_s < service_s:
        return 0.0
    low, high = 0.0, 0.995 * servers / service_s
    if response_within(bound_s, high, service_s, servers) >= fraction:
        return high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        if response_within(bound_s, middle, service_s, servers) >= fraction:
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=256)
def _at_most_waiting(load: float, servers: int) -> NDArray[np.float64]:
    """P(at most k requests wait), k = 0, 1, ...; `load` = rate * service time, less than `servers`.

    From the balance over one service time (Crommelin 1932): who was in service has left, who waited has begun, and a Poisson
    number has come. The states are cut where the tail, which falls geometrically, is out of sight.
    """
    if not 0 <= load < servers:
        raise ValueError(f"a load of {load} on {servers} servers has no equilibrium")
    free = 1 - load / servers
    states = servers + 2 + math.ceil(-math.log(LEFT_OUT) / (2 * free)) + 20 * servers
    arrivals = np.array(
        [
            math.exp(number * math.log(load) - load - math.lgamma(number + 1)) if load else float(not number)
            for number in range(states)
        ]
    )
    step = np.zeros((states, states))  # from column to row
    for before in range(states):
        left = max(0, before - servers)
        step[left:, before] = arrivals[: states - left]
    step[-1, :] += 1 - step.sum(axis=0)  # all that is beyond
    balance = step - np.eye(states)
    balance[0, :] = 1
    chances = np.linalg.solve(balance, np.eye(states)[0])
    return np.cumsum(chances)[servers:]
