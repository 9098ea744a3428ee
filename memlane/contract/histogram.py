"""Quantiles of histograms, as Prometheus counts them: how many took no longer than each bound."""

from collections.abc import Mapping
from math import inf


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """The value that a share of what was counted did not exceed; None where nothing was counted.

    Between two bounds the values are taken to lie evenly, as Prometheus' histogram_quantile does; what is over the last
    bound counts as that.

    Args:
        share: from 0 to 1.
        buckets: the counts by their upper bounds, as the label `le` has them; the last is `+Inf`.
    """
    bounds = sorted((inf if le == "+Inf" else float(le), count) for le, count in buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    wanted = share * bounds[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted:
            if bound == inf:
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below) if count > below else bound
        lower, below = bound, count
    return lower
