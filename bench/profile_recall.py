"""Where a recall spends its time: the question's vector as a gateway finds it, then the search, run after run."""

from statistics import median
from time import perf_counter

from memlane.bench.asking import PROVIDER, costs_money, loaded
from memlane.bench.steps import Profile, Runs, Step, p95, plans_of
from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.gateway.answers import Answers
from memlane.gateway.questions import Questions
from memlane.gateway.threads import NodeThreads
from memlane.storage.spending import Group
from memlane.storage.traced import Trace
from memlane.tasks import recall
from memlane.tasks.lane import Lane
from memlane.tasks.provider import Wanted
from memlane.tasks.recall import Question

_VECTOR = "vector"
_SEARCH = "search"
_BESIDE = "if not cached"


async def profile_recall(
    settings: Settings, tenant: str, request: RecallRequest, times: int, *, plans: bool
) -> Profile:
    """Recall so many times, and once more before, as a gateway does; nothing is written but what a provider costs.

    Args:
        settings: of the system.
        tenant: whose agent it is.
        request: the question, to one agent.
        times: how many runs are counted.
        plans: whether to ask for the plans of the statements, in one more run.

    Raises:
        Unavailable: a node does not answer.
    """
    trace = Trace()
    lane = Lane(settings, "profile", pool_size=settings.gateway_threads, make_node=trace.node)
    lane.open()
    threads = NodeThreads(lane.cluster, settings)
    answers = Answers(lane, threads, settings)
    questions = Questions(lane, threads, answers, settings, keep=lambda _text, _made: None)
    try:
        lane.cluster.refresh()
        lane.cluster.begin()
        load_ms = loaded(lane, trace, lane)
        runs = Runs(trace)
        asking = _Asking(lane, threads, questions, tenant, request)
        for _ in range(times + 1):
            await asking.run(runs.begin())
        steps = runs.steps()
        cached = not any(step.step == PROVIDER for step in steps)
        if cached:
            steps += asking.without_cache(Runs(trace), 1 if costs_money(lane) else times + 1)
        if plans:
            trace.explains = True
            await asking.run(Runs(trace).begin())
        first, *others = runs.totals_ms()
        return Profile(
            "recall", request.agent or "", asking.shard, times, steps, round(median(others), 3), round(p95(others), 3),
            round(first, 3), runs.trips(), _notes(load_ms, asking, cached=cached), plans_of(trace),
        )  # fmt: skip
    finally:
        questions.close()
        answers.close()
        threads.close()
        lane.close()


class _Asking:
    """One question, asked again and again."""

    def __init__(
        self, lane: Lane, threads: NodeThreads, questions: Questions, tenant: str, request: RecallRequest
    ) -> None:
        self._lane = lane
        self._threads = threads
        self._questions = questions
        self._request = request
        self._group = Group(tenant, request.agent or "")
        ((self.shard, self._names),) = recall.place(lane, Question(tenant, request)).items()
        self.hits = 0
        self.degraded: tuple[str, ...] = ()

    async def run(self, runs: Runs) -> None:
        """Ask once."""
        lane, request = self._lane, self._request
        begun = perf_counter()
        made = await self._questions.vector(self._group, request.query)
        runs.stage(_VECTOR, begun)
        begun = perf_counter()
        question = Question(self._group.tenant, request, made.vector, made.refusal)
        answer = await self._threads.on_shard(self.shard, lambda: recall.alone(lane, question, self.shard, self._names))
        runs.stage(_SEARCH, begun, after=lambda step: "ranking" if step.startswith("candidates") else None)
        self.hits, self.degraded = len(answer.recalled.hits), tuple(answer.recalled.degraded)

    def without_cache(self, runs: Runs, times: int) -> list[Step]:
        """Ask the provider for the vector that the cache knows; what it takes for it."""
        for _ in range(times):
            runs.begin()
            begun = perf_counter()
            self._lane.provider.embed([Wanted(self._group, self._request.query)], 1.0)
            runs.stage(_BESIDE, begun)
        return runs.steps()


def _notes(load_ms: float, asking: _Asking, *, cached: bool) -> list[str]:
    notes = [f"{asking.hits} hits" if asking.hits else "no hits: does the agent have memories?", *asking.degraded]
    if load_ms >= 1:
        notes.append(f"a process loads the model once, in {load_ms:.0f} ms; that is in no run")
    if cached:
        notes.append("the cache knows the question's vector: what the provider takes for it is shown beside")
    return notes
