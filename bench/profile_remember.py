"""Where a remember spends its time: accept, claim, embed and store, for real, in transactions that are rolled back."""

from statistics import median
from time import perf_counter

from memlane.bench.asking import costs_money, loaded
from memlane.bench.steps import Profile, Runs, p95, plans_of
from memlane.config.settings import Settings
from memlane.contract import MemoryItem
from memlane.errors import MemlaneError, Unavailable
from memlane.storage import agents, jobs, rehearsal
from memlane.storage.agents import AgentNumbers
from memlane.storage.cluster import Shard
from memlane.storage.jobs import Claim, Kind, Terms
from memlane.storage.spending import Group
from memlane.storage.traced import Trace
from memlane.tasks import accept
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted
from memlane.tasks.remember import remember

_TRIES = 5
"""How often a run is begun again in which the claim took another's job: its tenant came in between."""

_ROLLED_BACK = (
    "all of it was rolled back: no row remains, and nobody saw the job; only sequences have moved on",
    "accept, claim and store each end in a commit when it is meant; what one takes here is shown beside",
)


def profile_remember(settings: Settings, tenant: str, item: MemoryItem, times: int, *, plans: bool) -> Profile:
    """Remember so many times, and once more before, and undo each.

    Args:
        settings: of the system.
        tenant: whose agent it is.
        item: what is remembered; each run makes a memory of its own of it.
        times: how many runs are counted.
        plans: whether to ask for the plans of the statements, in one more run.

    Raises:
        RateLimited, BudgetExceeded: the tenant may not hand anything over now.
        Unavailable: a node does not answer.
    """
    trace = Trace()
    lane = Lane(settings, "profile", make_node=trace.node)
    paying = Lane(settings, "profile")
    for one in (lane, paying):
        one.open()
    try:
        lane.cluster.begin()
        load_ms = loaded(lane, trace, paying)
        rehearsed = _Rehearsed(lane, trace, tenant, item)
        runs = Runs(trace)
        for _ in range(times + 1):
            rehearsed.run(runs)
        commits = Runs(trace)
        for _ in range(times + 1):
            commits.begin()
            begun = perf_counter()
            rehearsal.commit(rehearsed.shard)
            commits.stage("beside", begun)
        if plans:
            trace.explains = True
            rehearsed.run(Runs(trace))
        first, *others = runs.totals_ms()
        notes = [*_ROLLED_BACK, *rehearsed.notes]
        if load_ms >= 1:
            notes.append(f"a process loads the model once, in {load_ms:.0f} ms; that is in no run")
        return Profile(
            "remember", item.agent, rehearsed.shard.number, times, [*runs.steps(), *commits.steps()],
            round(median(others), 3), round(p95(others), 3), round(first, 3), runs.trips(), notes, plans_of(trace),
        )  # fmt: skip
    finally:
        lane.close()
        paying.close()


class _Rehearsed:
    """One item, remembered and undone again and again."""

    def __init__(self, lane: Lane, trace: Trace, tenant: str, item: MemoryItem) -> None:
        self._lane = lane
        self._trace = trace
        self._tenant = tenant
        self._item = item
        self.shard = lane.cluster.shard(lane.cluster.shard_of(tenant, item.agent))
        self._new = agents.find(self.shard, tenant, item.agent, lane.model.name) is None
        self.notes: list[str] = ["the agent is new: each run registers it"] if self._new else []
        if costs_money(lane):  # before anything is held
            lane.provider.embed([Wanted(Group(tenant, item.agent), item.text)], 1.0)
            self.notes.append("the provider was asked once, before all runs, since it costs money")

    def run(self, runs: Runs) -> None:
        """Remember once, and undo it.

        Raises:
            Unavailable: others' jobs come in between, again and again.
        """
        for _ in range(_TRIES):
            if self._new:  # the number that was known was rolled back
                self._lane.numbers = AgentNumbers(self._lane.settings.agent_cache)
            with self._trace.undone():
                if self._done(runs):
                    return
        raise Unavailable("jobs of other tenants come in between: try again when there is less to do")

    def _done(self, runs: Runs) -> bool:
        runs.begin()
        begun = perf_counter()
        ((number, part),) = accept.place(self._lane, self._tenant, [self._item], atomic=False).items()
        (result,) = accept.on_shard(self._lane, self._tenant, number, part).values()
        if isinstance(result, MemlaneError):
            raise result
        runs.stage("accept", begun)
        explains, self._trace.explains = self._trace.explains, False
        agent = self._lane.numbers.of(self.shard, self._tenant, [self._item.agent], register=False)[self._item.agent]
        after = rehearsal.come_first(self.shard, Kind.REMEMBER, self._tenant, agent, part[0].id)
        self._trace.explains = explains
        self._trace.take()
        begun = perf_counter()
        claim = self._claimed(self.shard, after)
        if claim is None or claim.jobs[0].id != part[0].id:
            runs.withdraw()
            return False
        runs.stage("claim", begun)
        begun = perf_counter()
        remember(self._lane, self.shard, claim)
        runs.stage("embed and store", begun)
        return True

    def _claimed(self, shard: Shard, after: str) -> Claim | None:
        terms = Terms("profile", self._lane.settings.lease_s, 1)
        return jobs.claim(shard, Kind.REMEMBER, terms, after)
