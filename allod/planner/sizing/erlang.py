"""Erlang's formula for a queue with many servers: a floor, since real arrivals come in bursts.

A. K. Erlang, "Solution of some problems in the theory of probabilities of significance in automatic
telephone exchanges" (1917): Poisson arrivals, exponential service, first come first served (M/M/c).
"""

from __future__ import annotations

import math
from typing import Final

from allod.domain.errors import Invalid

MOST_SERVERS: Final = 1_000_000


def waits(servers: int, load: float) -> float:
    """Return the share of arrivals that find every server busy (Erlang C).

    Args:
        servers: how many serve at once.
        load: offered load in erlangs: arrivals per second times mean seconds of service.

    """
    if load >= servers:
        return 1.0
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    rho = load / servers
    return blocked / (1 - rho * (1 - blocked))


def wait_beyond(servers: int, load: float, service_s: float, limit_s: float) -> float:
    """Return the share of arrivals that wait longer than ``limit_s`` seconds."""
    if load >= servers:
        return 1.0
    return waits(servers, load) * math.exp(-(servers - load) * limit_s / service_s)


def servers_for(load: float, service_s: float, limit_s: float, share: float) -> int:
    """Return the fewest servers with which ``share`` of the arrivals wait at most ``limit_s`` seconds.

    Raises:
        Invalid: a figure is not positive, the share is not below 1, or no million servers would do.

    """
    if not (math.isfinite(load) and load > 0 and service_s > 0 and limit_s >= 0 and 0 < share < 1):
        raise Invalid(
            "there is nothing to compute a queue from",
            f"load {load}, service {service_s} s, limit {limit_s} s, share {share}",
            "give a load and a time above 0, a limit of 0 or more and a share between 0 and 1",
        )
    servers = max(1, math.floor(load) + 1)
    if servers > MOST_SERVERS:
        raise Invalid("the load is beyond a million servers", f"got {load:.0f} erlangs", "split the traffic")
    while wait_beyond(servers, load, service_s, limit_s) > 1 - share:
        servers += 1
    return servers
