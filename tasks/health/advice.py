"""Advice: what would help against a trend. It is given, and never followed by itself.

* add_workers: the oldest job that is due waits for longer than it should, at every look, ever longer, while ingest
  workers are at work most of their time.
* raise_limit: work waits ever longer while workers have time, and the provider refuses them for its rate. Jobs that
  wait for a tenant's budget are no reason: that budget was set, and has alerts of its own.
* rebalance: one node has much more to keep than its share, or at least two shards more than another.
* add_node: recall takes too long at every look, and no node has much more than its share, so that moving shards would
  not help.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memlane.config.settings import Settings
from memlane.contract.health import Advice, Scaling
from memlane.storage.reports import Figures

LOOKS = 3
"""Fewer looks are no trend."""

BUSY = 0.8
"""The share of their time from which workers are busy."""

IDLE = 0.5
"""The share of their time up to which they have some."""

UNEVEN = 1.5
"""How many times its share of the bytes a node may have."""

_SMALL_BYTES = 1_000_000_000
"""A node with less need not give up anything."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a node has to keep: how many shards, and about how many bytes."""

    node: str
    shards: int
    size: int


def advise(trend: Sequence[Figures], loads: Sequence[Load], settings: Settings) -> tuple[Advice, ...]:
    """What would help, and why; nothing where there is no trend.

    Args:
        trend: the figures of the last looks, the oldest first.
        loads: of all nodes that said.
        settings: for the thresholds.
    """
    unbalanced = _rebalance(loads)
    found = [unbalanced]
    if len(trend) >= LOOKS:
        found += [
            _add_workers(trend, settings),
            _raise_limit(trend, settings),
            _add_node(trend, settings) if unbalanced is None else None,
        ]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: list(Scaling).index(one.advice)))


def _add_workers(trend: Sequence[Figures], settings: Settings) -> Advice | None:
    used = _utilisation(trend)
    if used is None or used < BUSY or not _waits_longer(trend, settings):
        return None
    return Advice(
        Scaling.ADD_WORKERS,
        f"the oldest job waits for {trend[-1].queue_age_s:.0f} s, {trend[0].queue_age_s:.0f} s at the first of "
        f"{len(trend)} looks, and ingest workers are at work {used:.0%} of their time",
    )


def _raise_limit(trend: Sequence[Figures], settings: Settings) -> Advice | None:
    used, refused = _utilisation(trend), trend[-1].refusals
    if used is not None and used <= IDLE and refused and _waits_longer(trend, settings):
        why = f"work waits ever longer though workers have time: the provider's rate refused {refused:.0f} requests"
        return Advice(Scaling.RAISE_LIMIT, f"{why} (MEMLANE_PROVIDER_RPM, MEMLANE_PROVIDER_TPM, or its own limits)")
    return None


def _rebalance(loads: Sequence[Load]) -> Advice | None:
    if len(loads) < 2:
        return None
    most, least = max(loads, key=lambda load: load.shards), min(loads, key=lambda load: load.shards)
    if most.shards - least.shards >= 2:
        return Advice(
            Scaling.REBALANCE, f"{most.node} has {most.shards} shards, {least.node} {least.shards}: memlane shards"
        )
    fullest, share = max(loads, key=lambda load: load.size), sum(load.size for load in loads) / len(loads)
    if fullest.size > UNEVEN * share and fullest.size >= _SMALL_BYTES:
        reason = (
            f"{fullest.node} keeps {fullest.size / share:.1f} times its share of {share / 1e9:.1f} GB: memlane shards"
        )
        return Advice(Scaling.REBALANCE, reason)
    return None


def _add_node(trend: Sequence[Figures], settings: Settings) -> Advice | None:
    times = [one.recall_ms for one in trend if one.recall_ms is not None]
    if len(times) < len(trend) or min(times) <= settings.recall_warn_ms:
        return None
    reason = f"5 % of recalls took longer than {min(times):.0f} ms at each of {len(trend)} looks, on all nodes alike"
    return Advice(Scaling.ADD_NODE, reason)


def _waits_longer(trend: Sequence[Figures], settings: Settings) -> bool:
    """Whether work waits too long at every look, and longer than at first."""
    ages = [one.queue_age_s for one in trend]
    return min(ages) > settings.queue_warn_s and ages[-1] > ages[0]


def _utilisation(trend: Sequence[Figures]) -> float | None:
    """The share of their time that workers were at work, over the looks that knew it."""
    known = [one.utilisation for one in trend if one.utilisation is not None]
    return sum(known) / len(known) if known else None


def loads_of(sizes: Mapping[str, Mapping[str, int]], shards: Mapping[str, int]) -> list[Load]:
    """The loads of those nodes that said how large their shards are."""
    return [Load(node, shards.get(node, 0), sum(found.values())) for node, found in sizes.items()]
