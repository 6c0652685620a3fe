"""From daily load to replicas, waiting time and storage."""

import math
from typing import Any


def estimate_capacity(
    requests_per_day: float,
    seconds_per_request: float = 1.0,
    peak_factor: float = 4.0,
    concurrency_per_replica: int = 1,
    utilisation: float = 0.7,
    kilobytes_per_request: float = 20.0,
    retention_days: int = 180,
    least_replicas: int = 2,
) -> dict[str, Any]:
    """Estimate replicas, waiting time and storage for a service from its daily load.

    Peak load is the daily mean times `peak_factor`; work in progress follows Little's law; waiting follows
    the M/M/c queue (Erlang C), which overstates waits when requests take about equally long.

    Args:
        requests_per_day: Requests on an ordinary day.
        seconds_per_request: Mean time one request keeps a slot busy.
        peak_factor: Peak hour's rate divided by the daily mean rate; 3 to 6 is usual for office hours.
        concurrency_per_replica: Requests one replica works on at a time.
        utilisation: Highest share of busy slots wanted at peak, 0.1 to 0.95.
        kilobytes_per_request: Stored per request.
        retention_days: How long it is kept.
        least_replicas: Fewest replicas, for failover.
    """
    if requests_per_day <= 0 or seconds_per_request <= 0 or concurrency_per_replica < 1:
        raise ValueError("load, time per request and concurrency must be more than zero")
    if not 0.1 <= utilisation <= 0.95:
        raise ValueError("utilisation lies between 0.1 and 0.95; nothing runs well at 100 %")
    peak = requests_per_day / 86_400 * peak_factor
    busy = peak * seconds_per_request
    needed = math.ceil(busy / utilisation / concurrency_per_replica)
    replicas = max(least_replicas, needed)
    slots = replicas * concurrency_per_replica
    waits = _erlang_c(busy, slots)
    spare = slots - busy
    return {
        "requests_per_second_mean": round(requests_per_day / 86_400, 4),
        "requests_per_second_peak": round(peak, 4),
        "busy_slots_at_peak": round(busy, 3),
        "replicas": replicas,
        "replicas_for_load": needed,
        "utilisation_at_peak": round(busy / slots, 4),
        "share_that_waits": round(waits, 4),
        "mean_wait_seconds": round(waits * seconds_per_request / spare, 4),
        "utilisation_with_one_replica_lost": _with_one_lost(busy, replicas, concurrency_per_replica),
        "storage_gigabytes": round(requests_per_day * retention_days * kilobytes_per_request / 1e6, 2),
        "assumptions": {
            "peak_factor": peak_factor,
            "utilisation": utilisation,
            "retention_days": retention_days,
        },
    }


def _with_one_lost(busy: float, replicas: int, concurrency: int) -> float | None:
    """None when nothing is left; above 1 the rest cannot keep up."""
    left = (replicas - 1) * concurrency
    return round(busy / left, 4) if left else None


def _erlang_c(busy: float, slots: int) -> float:
    """The share of requests that wait (Erlang C), by the stable recursion over Erlang B."""
    blocked = 1.0
    for count in range(1, slots + 1):
        blocked = busy * blocked / (count + busy * blocked)
    return blocked / (1 - busy / slots * (1 - blocked))
