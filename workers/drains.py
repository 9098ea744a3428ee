"""A drain: one run of a Celery task that claims a shard's jobs, batch by batch, and finishes them.

Per batch: claim, keep the lease while the work is done, finish in the transaction of the effect. A claim that is
small takes others of the same node with it, so that the provider is asked once for many shards with little to do.
What ends a batch otherwise has a name: refused (something else is down: the jobs go back as they were), failed (the
jobs themselves: it counts like a death, so that a bad job is narrowed down and parked) and fenced (the lease was
lost: somebody else has the jobs).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic, sleep

import structlog

from memlane.contract.upkeep import Knob
from memlane.errors import Misconfigured, Unavailable
from memlane.storage import jobs, leases
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Done, Kind, Terms
from memlane.tasks.batch_embed import embed_memories, embed_texts
from memlane.tasks.forget import remove_forgotten
from memlane.tasks.hooks import Operation, Underway
from memlane.tasks.lane import Lane
from memlane.tasks.optimize import optimize
from memlane.tasks.rates import Rates
from memlane.tasks.remember import Finish, embed_together, remember
from memlane.workers.keeper import kept
from memlane.workers.marks import Marks, Turn
from memlane.workers.returns import Returns
from memlane.workers.throttle import FEWER, MIB, Level, Throttle
from memlane.workers.wakeups import DRAIN_OF

log = structlog.get_logger(__name__)

_GATHER_S = 0.06
"""How long a drain waits at most while another gathers: about one request to a provider."""

_LOOK_S = 0.01
"""How often it looks whether that one is through."""


@dataclass(frozen=True, slots=True)
class Work:
    """How jobs of a kind are finished, and how many are claimed at once; None: as the settings say."""

    work: Callable[[Lane, Shard, Claim], Done]
    at_once: int | None = None
    together: Callable[[Lane, Sequence[tuple[Shard, Claim]]], Sequence[Finish]] | None = None
    """Does for small claims of shards on one node together what can be; then each is finished by itself. Only where the
    task has no other kind: whoever takes up a wake-up does all that it stands for."""


WORK: Mapping[Kind, Work] = {
    Kind.REMEMBER: Work(remember, together=embed_together),
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
    throttle: Throttle | None = None
    """How much may be claimed for the memory that is held; None where nobody measures."""

    @property
    def level(self) -> Level:
        """How much may be claimed now."""
        return Level.ALL if self.throttle is None else self.throttle.ask()

    @property
    def ends(self) -> bool:
        """Whether it makes way for a new one after this task."""
        return self.throttle is not None and self.throttle.ends


@dataclass(slots=True)
class Tally:
    """What the claims of one drain came to so far, and who woke it."""

    done: Done = field(default_factory=Done)
    cause: str | None = None
    """The `traceparent` of the span that caused its wake-up."""
    wakeup: str | None = None
    """The name of that."""

    def add(self, done: Done) -> None:
        """One more claim."""
        self.done += done


def drain(process: Process, task: str, shard: int, wakeup: str | None = None, traceparent: str | None = None) -> Done:
    """Finish a shard's jobs until there are none or the slice ends; then make room for other shards.

    Args:
        process: this one.
        task: which kinds of jobs.
        shard: where.
        wakeup: the name of the wake-up that began it.
        traceparent: of the span that caused that, if any did.

    Returns:
        What its claims came to, all in all.
    """
    if process.level is Level.NONE:
        return _turn_away(process, task, shard, wakeup)
    tally = Tally(cause=traceparent, wakeup=wakeup)
    with _turn(process, task, shard, tally) as turn:
        if turn is Turn.TAKEN_UP or not process.marks.clear(task, shard, wakeup):
            return Done()
        _drain(process, task, shard, tally)
    return tally.done


def _drain(process: Process, task: str, shard: int, tally: Tally) -> None:
    """Finish jobs of each kind of a task, in a part of the slice each."""
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


@contextmanager
def _turn(process: Process, task: str, shard: int, tally: Tally) -> Iterator[Turn]:
    """Wait while another drain gathers on this node: it may take up what we came for, else there will be more of it."""
    node = process.lane.cluster.node_of(shard)
    if tally.wakeup is None or node is None or not any(WORK[kind].together for kind in KINDS_OF[task]):
        yield Turn.OURS
        return
    until = monotonic() + _GATHER_S
    while (turn := process.marks.gather(task, node, tally.wakeup)) is Turn.OTHERS and monotonic() < until:
        sleep(_LOOK_S)
    try:
        yield turn
    finally:
        if turn is Turn.OURS:
            process.marks.gathered(task, node, tally.wakeup)


def _turn_away(process: Process, task: str, shard: int, wakeup: str | None) -> Done:
    """Claim nothing: there is no memory for it.

    A process that is about to end sends the wake-up on, to another or to its successor. One that stays, because
    others fill the machine, leaves the mark where it is: so accepting wakes nobody for this shard until the mark is
    gone, or the sweep looks, and the queue is not full of messages that nobody can take up.
    """
    if process.ends and process.marks.clear(task, shard, wakeup):
        process.lane.wake(KINDS_OF[task][0], shard)
    return Done(refused=True)


def _drain_kind(process: Process, kind: Kind, until: float, tally: Tally, shard: Shard) -> bool:
    """Finish jobs of one kind; whether there may be more that can be done now.

    Where as many drains as may be are at work, they do that: each claims again before it goes, or wakes another.
    """
    places = _places(process, shard, kind)
    if places == 0:
        return False
    for claim in _claims(process, shard, kind):
        if places > 1 and claim.full:
            places = 0  # it is asked once; whoever comes then may ask again
            process.lane.wake(kind, shard.number)
        begun = monotonic()
        if claim.full and tally.wakeup is not None:  # there is enough for several
            process.marks.gathered(DRAIN_OF[kind], shard.node.name, tally.wakeup)
        near = _taken_up(process, shard, claim)
        parts = _gathered(process, shard, claim, near)
        done = (
            work_off(process, shard, claim, tally.cause) if len(parts) == 1 else _work_together(process, parts, tally)
        )
        process.lane.measures.claim(kind.value, sum(len(of.jobs) for _, of in parts), monotonic() - begun, done.counts)
        tally.add(done)
        for number in near:
            _drain_suspects(process, kind, number, tally)
        if done.refused:
            return False
        if process.stopping() or monotonic() > until:
            return True
    return process.ends


def _taken_up(process: Process, shard: Shard, claim: Claim) -> list[int]:
    """Other shards on the node whose wake-ups are taken up, where this claim alone is too small for what it costs."""
    if WORK[claim.kind].together is None or claim.full or claim.suspect or process.level is not Level.ALL:
        return []
    here = process.lane.cluster.by_node().get(shard.node.name, ())
    near = [other.number for other in here if other.number != shard.number]
    return process.marks.take_up(DRAIN_OF[claim.kind], near) if near else []


def _gathered(process: Process, shard: Shard, claim: Claim, near: Sequence[int]) -> list[tuple[Shard, Claim]]:
    """A claim, and beside it those of other shards as far as there is room; who has more to do is woken anew."""
    kind, room = claim.kind, claim_size(process, claim.kind) - len(claim.jobs)
    parts = [(shard, claim)]
    try:
        for number in near:
            beside = process.lane.cluster.on(number, partial(_beside, process, kind, room)) if room > 0 else None
            if beside is not None:
                parts.append(beside)
                room -= len(beside[1].jobs)
            if room <= 0 or (beside is not None and beside[1].full):
                process.lane.wake(kind, number)
    except (Unavailable, Misconfigured) as error:  # the sweep wakes who was left out
        log.warning("drain.refused", kind=kind, shard=shard.number, why=str(error))
    except BaseException:
        _give_back(process, parts)
        raise
    return parts


def _beside(process: Process, kind: Kind, room: int, shard: Shard) -> tuple[Shard, Claim] | None:
    """A claim of a shard to be worked on with others; none where there is nothing to do, or others are at it."""
    terms = _terms(process, kind)
    if terms is None or _places(process, shard, kind) == 0:
        return None
    claim = _next(process, shard, kind, replace(terms, limit=min(terms.limit, room)))
    return None if claim is None else (shard, claim)


def _drain_suspects(process: Process, kind: Kind, number: int, tally: Tally) -> None:
    """Finish what a holder died with on a shard whose wake-up was taken up: by itself, with nothing else at stake."""

    def work(shard: Shard) -> None:
        while (terms := _terms(process, kind)) and (claim := _suspects(process, shard, kind, terms)) is not None:
            tally.add(work_off(process, shard, claim, tally.cause))
            if process.stopping():
                break

    try:
        process.lane.cluster.on(number, work)
    except (Unavailable, Misconfigured) as error:
        log.warning("drain.refused", kind=kind, shard=number, why=str(error))


def _give_back(process: Process, parts: Sequence[tuple[Shard, Claim]]) -> None:
    for shard, claim in parts:
        process.returns.give_back(shard, claim)


def _places(process: Process, shard: Shard, kind: Kind) -> int:
    """How many drains more may be at work on a kind of jobs of a shard, this one among them."""
    if WORK[kind].at_once is not None:
        return 1
    settings = process.lane.settings
    most = process.lane.cluster.knobs.of(settings, Knob.DRAINS_PER_SHARD)
    return max(0, most - leases.at_work(shard, kind.value, settings.lease_s))


def claim_size(process: Process, kind: Kind) -> int:
    """How many jobs of a kind are claimed at once."""
    return WORK[kind].at_once or process.lane.cluster.knobs.of(process.lane.settings, Knob.CLAIM_SIZE)


def _claims(process: Process, shard: Shard, kind: Kind) -> Iterator[Claim]:
    """Claim after claim until nothing is due, or no memory free: suspects first, then all, rotating over tenants."""
    suspects_first = True
    while (terms := _terms(process, kind)) is not None:
        ways = (partial(_suspects, process), partial(_next, process))
        one, other = ways if suspects_first else ways[::-1]
        claim = one(shard, kind, terms) or other(shard, kind, terms)
        if claim is None:
            return
        yield claim
        suspects_first = False


def _suspects(process: Process, shard: Shard, kind: Kind, terms: Terms) -> Claim | None:
    """The next claim of those that holders died with.

    They are parked after as many deaths as it takes until they are alone, beginning from the setting, whatever the knob
    says.
    """
    return jobs.claim_suspects(shard, kind, replace(terms, limit=min(terms.limit, process.lane.settings.claim_size)))


def _terms(process: Process, kind: Kind) -> Terms | None:
    """The terms of the next claim; None: there is no memory for one."""
    settings = process.lane.settings
    level = process.level
    if level is Level.NONE:
        return None
    part = FEWER if level is Level.FEW else 1
    return Terms(
        process.holder,
        settings.lease_s,
        max(1, claim_size(process, kind) // part),
        process.returns.give_back_unseen,
        process.lane.cluster.terms.weights,
        settings.claim_mb * MIB // part,
    )


def _next(process: Process, shard: Shard, kind: Kind, terms: Terms) -> Claim | None:
    """The next claim round the tenants; from the first again after the last."""
    place = kind, shard.number
    after = process.places.get(place, "")
    claim = jobs.claim(shard, kind, terms, after)
    if claim is None and after:
        claim = jobs.claim(shard, kind, terms)
    process.places[place] = claim.last if claim is not None else ""
    return claim


def work_off(process: Process, shard: Shard, claim: Claim, cause: str | None = None) -> Done:
    """Do the work of one claim under its lease; what it came to: if that is refused, the next claim would be as well.

    Args:
        process: this one.
        shard: where.
        claim: what to do.
        cause: the `traceparent` of the span that woke this drain; it may have been for other jobs.

    Raises:
        Unavailable, Misconfigured: something that the jobs need is down; they were given back.
    """
    operation = Operation(f"drain.{claim.kind}", shard=shard.number, items=len(claim.jobs), follows=cause)
    with process.lane.hooks.around(operation) as underway:
        work = partial(WORK[claim.kind].work, process.lane, shard, claim)
        return _work_off(process, shard, claim, underway, _kept(process, shard, claim), work)


def _kept(process: Process, shard: Shard, claim: Claim) -> AbstractContextManager[None]:
    settings = process.lane.settings
    return kept(shard, claim, settings.lease_s, process.stopping, settings.stop_grace_s)


def _work_together(process: Process, parts: Sequence[tuple[Shard, Claim]], tally: Tally) -> Done:
    """As `work_off`, for claims of several shards: what goes wrong with one harms no other.

    Raises:
        Unavailable, Misconfigured: as the first shard said; the others were worked on all the same.
    """
    first, of_first = parts[0]
    jobs_ = sum(len(claim.jobs) for _, claim in parts)
    operation = Operation(f"drain.{of_first.kind}", shard=first.number, items=jobs_, follows=tally.cause)
    with process.lane.hooks.around(operation) as underway, ExitStack() as all_leases:
        held = [all_leases.enter_context(ExitStack()) for _ in parts]
        for lease, (shard, claim) in zip(held, parts, strict=True):
            lease.enter_context(_kept(process, shard, claim))
        left = list(zip(parts, held, _prepared(process, parts), strict=True))
        done, refusal = Done(), None
        while left:
            (shard, claim), lease, work = left.pop()
            try:
                done += _work_off(process, shard, claim, underway, lease, work)
            except (Unavailable, Misconfigured) as error:
                log.warning("drain.refused", kind=claim.kind, shard=shard.number, why=str(error))
                refusal = error  # of the first shard, in the end
            except BaseException:
                _give_back(process, [part for part, _, _ in left])
                raise
            else:
                refusal = None
    if refusal is not None:
        tally.add(done)
        raise refusal
    return done


def _prepared(process: Process, parts: Sequence[tuple[Shard, Claim]]) -> Sequence[Finish]:
    """What is left to do for each of several claims after what is done for all; what fails there fails for each."""
    together = WORK[parts[0][1].kind].together
    assert together is not None, "only such kinds are claimed together"
    try:
        return together(process.lane, parts)
    except Exception as error:  # noqa: BLE001  # each claim's own end knows what to do about it
        return [partial(_fail, error)] * len(parts)
    except BaseException:
        _give_back(process, parts)
        raise


def _fail(error: Exception) -> Done:
    raise error


def _work_off(
    process: Process,
    shard: Shard,
    claim: Claim,
    underway: Underway,
    lease: AbstractContextManager[object],
    work: Finish,
) -> Done:
    settings = process.lane.settings
    begun = monotonic()
    bound = log.bind(kind=claim.kind, shard=shard.number, jobs=len(claim.jobs), lease=str(claim.token))
    try:
        with lease:
            outcome = work()
    except (Unavailable, Misconfigured):
        process.returns.give_back(shard, claim)
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it must harm these jobs only
        bound.exception("drain.failed")
        underway.failed(error)
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
