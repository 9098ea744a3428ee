"""A drain: one run of a Celery task that claims a shard's jobs, batch by batch, and finishes them.

Per batch: claim, keep the lease while the work is done, finish in the transaction of the effect. What
ends a batch otherwise has a name: refused (something else is down: the jobs go back as they were),
failed (the jobs themselves: it counts like a death, so that a bad job is narrowed down and parked)
and fenced (the lease was lost: somebody else has the jobs).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import structlog

from memlane.errors import Misconfigured, Unavailable
from memlane.storage import jobs, leases
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind, Terms
from memlane.tasks.batch_embed import embed_memories, embed_texts
from memlane.tasks.forget import remove_forgotten
from memlane.tasks.lane import Lane
from memlane.tasks.optimize import optimize
from memlane.tasks.rates import Rates
from memlane.tasks.remember import remember
from memlane.workers.keeper import kept
from memlane.workers.marks import Marks
from memlane.workers.returns import Returns
from memlane.workers.wakeups import DRAIN_OF

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """How jobs of a kind are finished, and how many are claimed at once; None: as the settings say."""

    work: Callable[[Lane, Shard, Claim], Done]
    at_once: int | None = None


WORK: Mapping[Kind, Work] = {
    Kind.REMEMBER: Work(remember),
    Kind.EMBED: Work(embed_memories),
    Kind.TEXT_EMBED: Work(embed_texts),
    Kind.FORGET: Work(remove_forgotten, 16),
    Kind.OPTIMIZE: Work(optimize, 16),
}

KINDS_OF: Mapping[str, tuple[Kind, ...]] = {
    task: tuple(kind for kind in Kind if DRAIN_OF[kind] == task) for task in DRAIN_OF.values()
}
"""The kinds of jobs that each task finishes."""


@dataclass(frozen=True, slots=True)
class Process:
    """What a drain has to know of the process that it runs in."""

    lane: Lane
    marks: Marks
    holder: str
    """Names this process in leases."""
    stopping: Callable[[], bool]
    """Whether it was asked to stop."""
    returns: Returns
    """Takes leases that are given back."""
    places: dict[tuple[Kind, int], str] = field(default_factory=dict)
    """The tenant after which the next claim of a kind on a shard begins, so that slices go round as well."""
    rates: Rates | None = None
    """How much tenants may hand over; None where nobody counts."""


@dataclass(slots=True)
class Tally:
    """What the claims of one drain came to so far."""

    done: Done = field(default_factory=Done)

    def add(self, done: Done) -> None:
        """One more claim."""
        self.done += done


def drain(process: Process, task: str, shard: int, wakeup: str | None = None) -> Done:
    """Finish a shard's jobs until there are none or the slice ends; then make room for other shards.

    Args:
        process: this one.
        task: which kinds of jobs.
        shard: where.
        wakeup: the name of the wake-up that began it.

    Returns:
        What its claims came to, all in all.
    """
    process.marks.clear(task, shard, wakeup)
    tally = Tally()
    slice_s = process.lane.settings.slice_s / len(KINDS_OF[task])
    for kind in KINDS_OF[task]:
        try:
            more = process.lane.cluster.on(shard, partial(_drain_kind, process, kind, monotonic() + slice_s, tally))
        except (Unavailable, Misconfigured) as error:
            log.warning("drain.refused", kind=kind, shard=shard, why=str(error))
            tally.add(Done(refused=True))
            break
        if more:
            process.lane.wake(kind, shard)
    return tally.done


def _drain_kind(process: Process, kind: Kind, until: float, tally: Tally, shard: Shard) -> bool:
    """Finish jobs of one kind; whether there may be more that can be done now."""
    for claim in _claims(process, shard, kind):
        done = work_off(process, shard, claim)
        tally.add(done)
        if done.refused:
            return False
        if process.stopping() or monotonic() > until:
            return True
    return False


def _claims(process: Process, shard: Shard, kind: Kind) -> Iterator[Claim]:
    """Claim after claim until nothing is due: suspects first, then all, rotating over tenants."""
    settings = process.lane.settings
    limit = WORK[kind].at_once or settings.claim_size
    weights = process.lane.cluster.terms.weights
    terms = Terms(process.holder, settings.lease_s, limit, process.returns.give_back_unseen, weights)
    claim = jobs.claim_suspects(shard, kind, terms) or _next(process, shard, kind, terms)
    while claim is not None:
        yield claim
        claim = _next(process, shard, kind, terms) or jobs.claim_suspects(shard, kind, terms)


def _next(process: Process, shard: Shard, kind: Kind, terms: Terms) -> Claim | None:
    """The next claim round the tenants; from the first again after the last."""
    place = kind, shard.number
    after = process.places.get(place, "")
    claim = jobs.claim(shard, kind, terms, after)
    if claim is None and after:
        claim = jobs.claim(shard, kind, terms)
    process.places[place] = claim.last if claim is not None else ""
    return claim


def work_off(process: Process, shard: Shard, claim: Claim) -> Done:
    """Do the work of one claim under its lease; what it came to: if that is refused, the next claim would be as well.

    Raises:
        Unavailable, Misconfigured: something that the jobs need is down; they were given back.
    """
    settings = process.lane.settings
    begun = monotonic()
    bound = log.bind(kind=claim.kind, shard=shard.number, jobs=len(claim.jobs), lease=str(claim.token))
    try:
        with kept(shard, claim, settings.lease_s, process.stopping, settings.stop_grace_s):
            outcome = WORK[claim.kind].work(process.lane, shard, claim)
    except (Unavailable, Misconfigured):
        process.returns.give_back(shard, claim)
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it must harm these jobs only
        bound.exception("drain.failed")
        leases.fail(shard, claim.token, f"{type(error).__name__} in {claim.kind}")
        leases.expire(shard, settings.claim_size, settings.deaths_alone)
        return Done(failed=len(claim.jobs))
    except BaseException:
        process.returns.give_back(shard, claim)
        raise
    if outcome.fenced:
        bound.warning("drain.fenced")
        process.returns.give_back(shard, claim)
    else:
        bound.info("drain.finished", outcome=str(outcome), ms=round((monotonic() - begun) * 1000))
    return outcome
