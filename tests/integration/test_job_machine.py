"""The life of jobs and memories under Hypothesis: any steps in any order on the real SQL, beside a simple model.

After each step the whole of the shard is read, by SQL of the test's own, and has to be what the model says. JOB_LIVES
sets how many lives are lived: `JOB_LIVES=5000 pytest tests/integration/test_job_machine.py`.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from typing import Any, TypeVar, cast
from uuid import UUID

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from memlane.config.settings import Settings
from memlane.contract import Event
from memlane.storage import agents, forget, ids, jobs, leases, memories, parked, update
from memlane.storage.agents import AgentNumbers
from memlane.storage.cluster import Shard
from memlane.storage.ids import Offer, Outcome
from memlane.storage.job_state import LIFE, JobState, Move
from memlane.storage.jobs import NO_DELAY, Claim, Delay, Done, Kind, Terms
from memlane.tasks.lane import Lane
from tests.support import sql

T = TypeVar("T")

LIVES = int(os.environ.get("JOB_LIVES", "100"))
STEPS = 25
CLAIM_SIZE = 4
NARROWED, DEATHS_ALONE = 2, 1
DEADLY = 2
"""How many deaths park a job: one in a claim of two, which is narrowed down, and one alone."""

OWNERS = (("acme", "ada"), ("acme", "bob"), ("bolt", "ada"))
CONTENTS = ("green tea", "black tea", "no tea at all")

READ = """
SELECT jsonb_build_object(
    'ids', (SELECT coalesce(jsonb_agg(jsonb_build_array(agent, id, number, state) ORDER BY number), '[]') FROM {s}.ids),
    'jobs', (SELECT coalesce(jsonb_agg(jsonb_build_array(
                 number, kind, tenant, agent, id, lease, parked_at IS NOT NULL, deaths) ORDER BY number), '[]')
             FROM {s}.jobs WHERE kind IN ('remember', 'embed')),
    'memories', (SELECT coalesce(jsonb_agg(
                     jsonb_build_array(agent, id, number, content, version) ORDER BY number), '[]')
                 FROM {s}.memories),
    'vectors', (SELECT coalesce(jsonb_agg(jsonb_build_array(agent, memory) ORDER BY memory), '[]') FROM {s}.{v}),
    'versions', (SELECT coalesce(jsonb_agg(jsonb_build_array(number, version) ORDER BY number, version), '[]')
                 FROM {s}.versions),
    'agents', (SELECT jsonb_object_agg(number, jsonb_build_array(memories, words)) FROM {s}.agents),
    'words', (SELECT coalesce(jsonb_object_agg(agent, words), '{{}}')
              FROM (SELECT agent, sum(length(words)) AS words FROM {s}.memories GROUP BY agent) w),
    'leases', (SELECT coalesce(jsonb_agg(token ORDER BY token), '[]') FROM {s}.leases),
    'ledger', (SELECT coalesce(jsonb_agg(jsonb_build_array(tenant, event, n) ORDER BY tenant, event), '[]')
               FROM (SELECT tenant, event, sum(count) AS n FROM {s}.ledger GROUP BY 1, 2) l))
"""

EMPTY = "; ".join(
    f"DELETE FROM {{s}}.{table}"
    for table in ("jobs", "leases", "versions", "memories", "{v}", "ids", "threads", "ledger", "agents", "memory_stats")
)


class Past(Enum):
    """What was before a life begins."""

    NOTHING = auto()
    STORED = auto()
    """Some memories wait, some are stored, some have their vector."""
    HELD = auto()
    """Somebody holds jobs of both kinds, on leases that have run out."""
    PARKED = auto()
    """Jobs of both kinds are parked, and others held."""
    LOST = auto()
    """Holders of both kinds have lost their leases, and others have the jobs."""
    FORGOTTEN = auto()
    """Jobs of both kinds are held of agents that were forgotten."""


@dataclass
class Job:
    """A job as it should be."""

    kind: Kind
    state: JobState = JobState.OPEN
    lease: UUID | None = None
    deaths: int = 0
    died_in: UUID | None = None


@dataclass
class Memory:
    """A memory that was accepted, as it should be."""

    owner: tuple[str, str]
    agent: int
    id: UUID
    number: int
    first: str
    said: list[str] = field(default_factory=list)
    """Its contents, the newest last; none while it is not stored."""
    vector: bool = False
    forgotten: bool = False
    job: Job | None = None

    @property
    def state(self) -> str:
        """Of its identity."""
        if self.forgotten:
            return "forgotten"
        if self.job is not None and self.job.state is JobState.PARKED:
            return "parked"
        if not self.said:
            return "accepted"
        return "searchable" if self.vector else "stored"


@dataclass
class Held:
    """A claim that somebody holds, or held: he may come late."""

    claim: Claim
    alive: bool = True
    """Its lease is there."""
    run_out: bool = False
    counts: bool = True
    """Its end is a death: the node was not restarted meanwhile."""


class Lives(RuleBasedStateMachine):
    """Memories of a few agents, and several holders who claim, finish, die and come late."""

    def __init__(self, lane: Lane, shard: Shard, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        super().__init__()
        self.shard, self.table, self.dims, self.connection = shard, lane.table, lane.model.dims, connection
        self._own(EMPTY)
        names = AgentNumbers(10)
        self.agents = {
            (tenant, agent): names.of(shard, tenant, [agent], register=True)[agent] for tenant, agent in OWNERS
        }
        self.forgotten_before = dict.fromkeys(self.agents.values(), 0)
        self.memories: dict[tuple[int, UUID], Memory] = {}
        self.held: list[Held] = []
        self.ledger: Counter[tuple[str, str]] = Counter()

    def _own(self, statement: str) -> Any:
        """Run SQL of the test's own."""
        return self.connection.execute(statement.format(s=self.shard.schema, v=self.table).encode())

    # What the model knows.

    def doomed(self, memory: Memory) -> bool:
        """Whether its agent was forgotten after it was accepted."""
        return memory.number < self.forgotten_before[memory.agent]

    def jobs(self, kind: Kind | None = None, *states: JobState) -> list[Memory]:
        """The memories that have a job of a kind in one of these states, by number."""
        return sorted(
            (
                memory
                for memory in self.memories.values()
                if memory.job is not None and kind in (None, memory.job.kind) and memory.job.state in states
            ),
            key=lambda memory: memory.number,
        )

    def under(self, held: Held) -> list[Memory]:
        """The memories whose jobs are leased by a claim now."""
        return [
            memory
            for memory in self.memories.values()
            if held.alive and memory.job is not None and memory.job.lease == held.claim.token
        ]

    def count(self, tenant: str, event: Event, count: int = 1) -> None:
        """What the ledger has to say."""
        if count:
            self.ledger[tenant, event.value] += count

    def go(self, job: Job, move: Move) -> None:
        """Take a job along a way that there is."""
        assert job.state in LIFE[move].states
        job.state = LIFE[move].to
        if job.state is not JobState.LEASED:
            job.lease = None

    def remove(self, memory: Memory) -> None:
        """Forget it: no job, no row, no vector."""
        waiting = memory.job is not None and memory.job.kind is Kind.REMEMBER
        if memory.job is not None:
            self.go(memory.job, Move.FORGET)
        assert bool(memory.said) != waiting
        self.count(memory.owner[0], Event.DROPPED if waiting else Event.FORGOTTEN)
        memory.forgotten, memory.job, memory.vector = True, None, False
        memory.said.clear()

    # What happens.

    @initialize(past=st.sampled_from(Past))
    def begin(self, past: Past) -> None:
        """What was before: so that short lives get far."""
        if past is Past.NOTHING:
            return
        for owner, which in zip(OWNERS, ([0, 1, 2, 3], [0, 1], [0, 1]), strict=True):
            self.accept(owner, which)
        self._take(Kind.REMEMBER, lambda held: self.store(held, {0}))
        for _ in range(DEADLY if past is Past.PARKED else 0):
            self._take(Kind.REMEMBER, lambda held: self.run_out(held, "failed", swept=True))
            self._take(Kind.EMBED, lambda held: self.run_out(held, "failed", swept=True))
        if past is not Past.STORED:
            self._take(Kind.EMBED, lambda held: self.run_out(held, "late", past is Past.LOST))
            self._take(Kind.REMEMBER, lambda held: self.run_out(held, "late", past is Past.LOST))
        if past is Past.LOST:
            self._take(Kind.EMBED, lambda _: None)
            self._take(Kind.REMEMBER, lambda _: None)
        if past is Past.FORGOTTEN:
            self.forget_agent(OWNERS[0])
            self.forget_agent(OWNERS[1])

    def _take(self, kind: Kind, then: Callable[[int], None]) -> None:
        """One claim of a kind, and what becomes of it; suspects first, as in a drain."""
        before = len(self.held)
        self.claim_suspects(kind, "p", CLAIM_SIZE)
        if len(self.held) == before:
            self.claim(kind, "p", CLAIM_SIZE)
        if len(self.held) > before:
            then(-1)

    @rule(owner=st.sampled_from(OWNERS), which=st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True))
    def accept(self, owner: tuple[str, str], which: list[int]) -> None:
        """New memories, and the same once more."""
        agent = self.agents[owner]
        offers = [offer(owner[0], agent, UUID(int=n), CONTENTS[n % len(CONTENTS)]) for n in which]
        for made, answer in zip(offers, ids.accept(self.shard, offers), strict=True):
            before = self.memories.get((agent, made.id))
            content = made.payload["content"]
            if before is None:
                assert answer.outcome is Outcome.ACCEPTED
                number = self._own(
                    f"SELECT number FROM {{s}}.ids WHERE agent = {agent} AND id = '{made.id}'"
                ).fetchone()[0]
                self.memories[agent, made.id] = Memory(owner, agent, made.id, number, content, job=Job(Kind.REMEMBER))
                self.count(owner[0], Event.ACCEPTED)
            else:
                assert answer.outcome is Outcome.DUPLICATE
                assert answer.state == ("forgotten" if self.doomed(before) else before.state)
                self.count(owner[0], Event.DUPLICATE)

    @precondition(lambda self: self.memories)
    @rule(n=st.integers(0))
    def accept_other_content(self, n: int) -> None:
        """The same id with another content changes nothing."""
        memory = pick(list(self.memories.values()), n)
        (answer,) = ids.accept(self.shard, [offer(memory.owner[0], memory.agent, memory.id, "coffee")])
        assert answer.outcome is Outcome.CONFLICT
        self.count(memory.owner[0], Event.REJECTED)

    @precondition(lambda self: self.jobs(None, JobState.OPEN))
    @rule(
        kind=st.sampled_from((Kind.REMEMBER, Kind.EMBED)),
        holder=st.sampled_from("pq"),
        limit=st.integers(2, CLAIM_SIZE),
    )
    def claim(self, kind: Kind, holder: str, limit: int) -> None:
        """A holder takes jobs with which nobody has died."""
        self._due()
        due = [memory for memory in self.jobs(kind, JobState.OPEN) if memory.job and not memory.job.deaths]
        claim = jobs.claim(self.shard, kind, Terms(holder, 60.0, limit))
        assert (claim is None) == (not due)
        if claim is not None:
            assert set(claim.numbers) <= {memory.number for memory in due}
            assert 0 < len(claim.jobs) <= limit
            self._hold(claim)

    @precondition(lambda self: any(memory.job.deaths for memory in self.jobs(None, JobState.OPEN)))
    @rule(
        kind=st.sampled_from((Kind.REMEMBER, Kind.EMBED)),
        holder=st.sampled_from("pq"),
        limit=st.integers(2, CLAIM_SIZE),
    )
    def claim_suspects(self, kind: Kind, holder: str, limit: int) -> None:
        """A holder takes some of those with which most have died: the fewer the more often."""
        self._due()
        dead = [(memory.number, memory.job.deaths) for memory in self.jobs(kind, JobState.OPEN) if memory.job]
        most = max((deaths for _, deaths in dead), default=0)
        level = [number for number, deaths in dead if deaths == most > 0][: max(1, limit >> most)]
        claim = jobs.claim_suspects(self.shard, kind, Terms(holder, 60.0, limit))
        assert (claim.numbers if claim else []) == level
        if claim is not None:
            self._hold(claim)

    def _due(self) -> None:
        """Time passes: what was put off is due."""
        self._own("UPDATE {s}.jobs SET not_before = now() - interval '1 s' WHERE not_before > now() - interval '1 s'")

    def _hold(self, claim: Claim) -> None:
        self.held.append(Held(claim))
        for memory in self.memories.values():
            if memory.number in claim.numbers:
                assert memory.job is not None
                self.go(memory.job, Move.CLAIM)
                memory.job.lease = claim.token

    @precondition(lambda self: self.held)
    @rule(n=st.integers(0))
    def renew(self, n: int) -> None:
        """A holder holds on, if the lease is still there, be it run out or not."""
        held = pick(self.held, n)
        assert leases.renew(self.shard, held.claim.token, 60.0) == held.alive
        held.run_out = False
        for memory in self.under(held):
            assert memory.job is not None
            self.go(memory.job, Move.RENEW)

    @precondition(lambda self: self.held)
    @rule(n=st.integers(0))
    def release(self, n: int) -> None:
        """A holder gives back what is still his."""
        held = pick(self.held, n)
        freed = self.under(held)
        assert leases.release(self.shard, held.claim.token) == len(freed)
        for memory in freed:
            assert memory.job is not None
            self.go(memory.job, Move.RELEASE)
        held.alive = False

    @precondition(lambda self: any(held.alive for held in self.held))
    @rule(n=st.integers(0), how=st.sampled_from(("failed", "late", "restarted")), swept=st.booleans())
    def run_out(self, n: int, how: str, swept: bool) -> None:
        """A lease runs out: its work failed, nobody renews it, or the node was restarted."""
        held = pick([held for held in self.held if held.alive], n)
        held.run_out = True
        if how == "failed":
            leases.fail(self.shard, held.claim.token, "ValueError in remember")
        else:
            self._run_out(held, how)
        if swept:
            self.expire()

    def _run_out(self, held: Held, how: str) -> None:
        restarted = ", created_at = '2000-01-01'" if how == "restarted" else ""
        held.counts = held.counts and not restarted
        self._own(
            f"UPDATE {{s}}.leases SET expires_at = now() - interval '1 s'{restarted} WHERE token = '{held.claim.token}'"
        )

    @precondition(lambda self: any(held.run_out and held.alive for held in self.held))
    @rule()
    def expire(self) -> None:
        """The sweep takes the jobs from leases that ran out, and parks what has died too often."""
        struck, parked_now = 0, 0
        for held in [held for held in self.held if held.alive and held.run_out]:
            for memory in self.under(held):
                job = memory.job
                assert job is not None
                struck += 1
                job.deaths += held.counts
                job.died_in = held.claim.token if held.counts else job.died_in
                self.go(job, Move.PARK if job.deaths >= DEADLY else Move.EXPIRE)
                parked_now += job.state is JobState.PARKED
                if job.state is JobState.PARKED and job.kind is Kind.REMEMBER:
                    self.count(memory.owner[0], Event.PARKED)
            held.alive = False
        assert leases.expire(self.shard, NARROWED, DEATHS_ALONE) == (struck, parked_now)

    @precondition(lambda self: any(not held.alive for held in self.held))
    @rule(n=st.integers(0))
    def not_dead(self, n: int) -> None:
        """A holder that lost his lease was late, not dead."""
        held = pick([held for held in self.held if not held.alive], n)
        leases.not_dead(self.shard, held.claim.token, held.claim.numbers)
        for memory in self.memories.values():
            job = memory.job
            if job is not None and job.died_in == held.claim.token and job.deaths:
                job.deaths -= 1
                job.died_in = None
                if job.state is JobState.PARKED:
                    self.go(job, Move.RETRY)
                    self.count(memory.owner[0], Event.UNPARKED, job.kind is Kind.REMEMBER)

    @precondition(lambda self: any(held.claim.kind is Kind.REMEMBER for held in self.held))
    @rule(n=st.integers(0), vectors=st.sets(st.integers(0, CLAIM_SIZE - 1)))
    def store(self, n: int, vectors: set[int]) -> None:
        """A holder finishes remember jobs, with some vectors, in time or late."""
        held = pick([held for held in self.held if held.claim.kind is Kind.REMEMBER], n)
        given = [job.number for place, job in enumerate(held.claim.jobs) if place in vectors]
        done = memories.store(self.shard, held.claim, self._vectors(given), self.table, "english", NO_DELAY)
        expected: dict[str, int] = dict.fromkeys(("stored", "searchable", "dropped"), 0)
        for memory in self.under(held):
            assert memory.job is not None
            self.go(memory.job, Move.FINISH)
            if self.doomed(memory):
                memory.forgotten, memory.job = True, None
                self.count(memory.owner[0], Event.DROPPED)
                expected["dropped"] += 1
                continue
            memory.said = [memory.first]
            memory.vector = memory.number in given
            memory.job = None if memory.vector else Job(Kind.EMBED)
            self.count(memory.owner[0], Event.STORED)
            self.count(memory.owner[0], Event.EMBEDDED, memory.vector)
            expected["stored"] += 1
            expected["searchable"] += memory.vector
        assert done == Done(expected["stored"], expected["searchable"], expected["dropped"], fenced=not held.alive)
        held.alive = False

    @precondition(lambda self: any(held.claim.kind is Kind.EMBED for held in self.held))
    @rule(n=st.integers(0), vectors=st.sets(st.integers(0, CLAIM_SIZE - 1)))
    def attach(self, n: int, vectors: set[int]) -> None:
        """A holder finishes embed jobs for which there are vectors, in time or late."""
        held = pick([held for held in self.held if held.claim.kind is Kind.EMBED], n)
        given = [job.number for place, job in enumerate(held.claim.jobs) if place in vectors]
        done = memories.attach(self.shard, held.claim, self._vectors(given), self.table, Delay(1.0, "not now"))
        assert done.fenced == (not held.alive)
        for memory in self.under(held):
            assert memory.job is not None
            if memory.number not in given and not self.doomed(memory):
                self.go(memory.job, Move.REFUSE)
                continue
            self.go(memory.job, Move.FINISH)
            memory.job = None
            if not self.doomed(memory):
                self.count(memory.owner[0], Event.EMBEDDED, not memory.vector)
                memory.vector = True
        held.alive = False

    def _vectors(self, numbers: Sequence[int]) -> dict[int, Any]:
        one = np.full(self.dims, self.dims**-0.5, np.float32)
        return dict.fromkeys(numbers, one)

    @precondition(lambda self: self.jobs(None, JobState.OPEN, JobState.PARKED))
    @rule(n=st.integers(0), more=st.booleans())
    def retry(self, n: int, more: bool) -> None:
        """Parked jobs are tried again; what is not parked stays as it is."""
        named = self._named(n, more)
        opened = [memory for memory in named if memory.job and memory.job.state is JobState.PARKED]
        kinds = parked.retry(self.shard, [memory.number for memory in named], self.table)
        assert Counter(kinds) == Counter(memory.job.kind for memory in opened if memory.job)
        for memory in opened:
            assert memory.job is not None
            self.go(memory.job, Move.RETRY)
            memory.job.deaths = 0
            self.count(memory.owner[0], Event.UNPARKED, memory.job.kind is Kind.REMEMBER)

    @precondition(lambda self: self.jobs(None, JobState.OPEN, JobState.PARKED))
    @rule(n=st.integers(0), more=st.booleans())
    def drop(self, n: int, more: bool) -> None:
        """Parked jobs are given up; a memory that was not stored is forgotten with its job."""
        named = self._named(n, more)
        gone = [memory for memory in named if memory.job and memory.job.state is JobState.PARKED]
        dropped = parked.drop(self.shard, [memory.number for memory in named], self.table)
        hashes = [sha256(memory.first.encode()).digest() if not memory.said else None for memory in gone]
        assert Counter((one.tenant, one.hash) for one in dropped) == Counter(
            (memory.owner[0], hash_) for memory, hash_ in zip(gone, hashes, strict=True)
        )
        for memory in gone:
            assert memory.job is not None
            self.go(memory.job, Move.DROP)
            if memory.job.kind is Kind.REMEMBER:
                memory.forgotten = True
                self.count(memory.owner[0], Event.DROPPED)
            memory.job = None

    def _named(self, n: int, more: bool) -> list[Memory]:
        """One that is parked if there is one, or all that have a job, whoever holds it."""
        if more:
            return self.jobs(None, JobState.OPEN, JobState.LEASED, JobState.PARKED)
        return [pick(self.jobs(None, JobState.PARKED) or self.jobs(None, JobState.OPEN), n)]

    @precondition(lambda self: self.memories)
    @rule(n=st.integers(0))
    def forget_memory(self, n: int) -> None:
        """A memory is forgotten, wherever it is; once more does nothing."""
        memory = pick(list(self.memories.values()), n)
        gone = forget.forget_memory(self.shard, memory.owner[0], memory.agent, memory.id)
        assert gone.memories == (not memory.forgotten)
        if not memory.forgotten:
            self.remove(memory)

    @precondition(lambda self: self.memories)
    @rule(owner=st.sampled_from(OWNERS))
    def forget_agent(self, owner: tuple[str, str]) -> None:
        """Everything of an agent is forgotten up to now, by a mark."""
        assert agents.forget(self.shard, *owner) == self.agents[owner]
        (before,) = self._own(
            f"SELECT forgotten_before FROM {{s}}.agents WHERE number = {self.agents[owner]}"
        ).fetchone()
        assert all(memory.number < before for memory in self.memories.values() if memory.owner == owner)
        self.forgotten_before[self.agents[owner]] = before

    @precondition(lambda self: any(self.doomed(memory) for memory in self.memories.values()))
    @rule()
    def remove_forgotten(self) -> None:
        """A drain removes the rows of agents that were forgotten."""
        claim = jobs.claim(self.shard, Kind.FORGET, Terms("r", 60.0, 8))
        for job in claim.jobs if claim else ():
            assert job.agent is not None
            list(forget.remove_doomed(self.shard, job.tenant, job.agent))
            for memory in self.memories.values():
                if memory.agent == job.agent and self.doomed(memory) and not memory.forgotten:
                    self.remove(memory)
        assert claim is None or jobs.settle(self.shard, claim.token, claim.numbers)

    @precondition(lambda self: any(memory.said for memory in self.memories.values()))
    @rule(n=st.integers(0), content=st.sampled_from(CONTENTS))
    def update(self, n: int, content: str) -> None:
        """A memory says something else: its vector goes, and whoever was making one finds the job is not his."""
        memory = pick([memory for memory in self.memories.values() if memory.said], n)
        changes = memory.said[-1] != content
        found = update.update(self.shard, memory.owner[0], memory.agent, memory.id, {"content": content}, "english")
        assert (found is None) == self.doomed(memory)
        if self.doomed(memory) or not changes:
            assert found is None or not found.rewritten
            return
        memory.job = Job(Kind.EMBED)
        memory.said.append(content)
        memory.vector = False
        self.count(memory.owner[0], Event.UPDATED)

    @rule()
    def open_missing(self) -> None:
        """Somebody asks for all vectors that are missing."""
        missing = [
            memory
            for memory in self.memories.values()
            if memory.said and not memory.vector and memory.job is None and not self.doomed(memory)
        ]
        assert jobs.open_missing(self.shard, self.table) == len(missing)
        for memory in missing:
            memory.job = Job(Kind.EMBED)

    # What always holds.

    @invariant()
    def holds(self) -> None:
        """What the shard says."""
        found = self._own(READ).fetchone()[0]
        self._is_as_it_should_be(found)
        self._is_in_one_place(found)

    def _is_as_it_should_be(self, found: dict[str, Any]) -> None:
        """The shard is what the model says, in all its tables."""
        known = sorted(self.memories.values(), key=lambda memory: memory.number)
        assert found["ids"] == [[m.agent, str(m.id), m.number, m.state] for m in known]
        assert found["jobs"] == [
            [m.number, m.job.kind, m.owner[0], m.agent, str(m.id), m.job.lease and str(m.job.lease), *_how(m.job)]
            for m in known
            if m.job is not None
        ]
        stored = [m for m in known if m.said]
        assert found["memories"] == [[m.agent, str(m.id), m.number, m.said[-1], len(m.said)] for m in stored]
        assert found["vectors"] == [[m.agent, m.number] for m in stored if m.vector]
        assert found["versions"] == [[m.number, version] for m in stored for version in range(1, len(m.said))]
        assert found["leases"] == sorted(str(held.claim.token) for held in self.held if held.alive)
        assert found["ledger"] == sorted([tenant, event, n] for (tenant, event), n in self.ledger.items())
        for agent, (count, words) in found["agents"].items():
            assert count == sum(m.agent == int(agent) for m in stored)
            assert words == found["words"].get(agent, 0)

    def _is_in_one_place(self, found: dict[str, Any]) -> None:
        """By what the shard says alone: nothing accepted is lost, nothing is there twice, and the ledger adds up."""
        waiting = [number for number, kind, *_ in found["jobs"] if kind == "remember"]
        stored = [number for _, _, number, *_ in found["memories"]]
        tombs = [number for _, _, number, state in found["ids"] if state == "forgotten"]
        assert sorted([*waiting, *stored, *tombs]) == [number for _, _, number, _ in found["ids"]]
        events = Counter[str]()
        for _, event, n in found["ledger"]:
            events[event] += n
        assert events["accepted"] == events["stored"] + events["dropped"] + len(waiting)
        parked_now = sum(kind == "remember" and parked for _, kind, *_, parked, _ in found["jobs"])
        given_up = events["parked"] - events["unparked"] - parked_now
        assert 0 <= given_up <= events["dropped"]


def _how(job: Job) -> tuple[bool, int]:
    return job.state is JobState.PARKED, job.deaths


def pick(some: Sequence[T], n: int) -> T:
    """One of some; Hypothesis makes the number small, so that the first ones are tried first."""
    return some[n % len(some)]


def offer(tenant: str, agent: int, id_: UUID, content: str) -> Offer:
    """A memory to be accepted."""
    payload = {"kind": "fact", "content": content, "importance": 0.5}
    return Offer(tenant, agent, id_, sha256(content.encode()).digest(), None, payload)


MOVES: Mapping[str, Callable[[Lives], object]] = {
    "accept": lambda life: life.accept(OWNERS[0], [3, 4]),
    "accept other content": lambda life: life.accept_other_content(0),
    "claim": lambda life: [life.claim(kind, "q", CLAIM_SIZE) for kind in (Kind.REMEMBER, Kind.EMBED)],
    "claim suspects": lambda life: [life.claim_suspects(kind, "q", CLAIM_SIZE) for kind in (Kind.REMEMBER, Kind.EMBED)],
    "renew": lambda life: [life.renew(n) for n in range(len(life.held))],
    "release": lambda life: [life.release(n) for n in range(len(life.held))],
    "die": lambda life: [life.run_out(0, "late", True) for held in list(life.held) if held.alive],
    "restart": lambda life: [life.run_out(0, "restarted", True) for held in list(life.held) if held.alive],
    "fail": lambda life: [life.run_out(0, "failed", False) for held in list(life.held) if held.alive],
    "expire": lambda life: life.expire(),
    "come late": lambda life: [life.not_dead(n) for n, _ in enumerate(h for h in life.held if not h.alive)],
    "retry": lambda life: life.retry(0, True),
    "drop": lambda life: life.drop(0, True),
    "forget a memory": lambda life: [life.forget_memory(n) for n in range(len(life.memories))],
    "forget an agent": lambda life: life.forget_agent(OWNERS[0]),
    "forget all agents": lambda life: [life.forget_agent(owner) for owner in OWNERS],
    "remove what is forgotten": lambda life: life.remove_forgotten(),
    "update": lambda life: [
        life.update(n, CONTENTS[2]) for n, _ in enumerate(m for m in life.memories.values() if m.said)
    ],
    "open what is missing": lambda life: life.open_missing(),
}
"""Everything that may happen to all that it may happen to."""


@pytest.fixture
def lane(settings: Settings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane on a database that may lose what it has committed, if it crashes; it is faster."""
    with sql(settings) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off".encode())
    return make_lane(settings)


@pytest.fixture
def new_life(lane: Lane, settings: Settings) -> Iterator[Callable[[], Lives]]:
    """Makes lives, one after the other, in the same shard."""
    shard = next(shard for shard in lane.cluster.shards() if shard.node.name == "node-1")
    with sql(settings) as connection:
        yield lambda: Lives(lane, shard, connection)


@pytest.mark.timeout(600)
def test_whatever_happens_everybody_comes_to_an_end(new_life: Callable[[], Lives]) -> None:
    """After each past each move; then all who hold something finish it, or come late, and all is cleared up."""
    for past in Past:
        for name, move in MOVES.items():
            try:
                _live(new_life(), past, move)
            except BaseException as error:
                error.add_note(f"{name}, after {past.name.lower()}")
                raise


def _live(life: Lives, past: Past, move: Callable[[Lives], object]) -> None:
    life.begin(past)
    if not life.memories:
        life.accept(OWNERS[0], [0, 1])
    life.holds()
    move(life)
    life.holds()
    for held in list(life.held):
        same = [other for other in life.held if other.claim.kind is held.claim.kind]
        finish = life.store if held.claim.kind is Kind.REMEMBER else life.attach
        finish(same.index(held), {0, 2})
        life.holds()
    life.expire()
    life.remove_forgotten()
    life.open_missing()
    life.holds()


@pytest.mark.timeout(3600 if "JOB_LIVES" in os.environ else 600)
def test_any_life_that_jobs_can_live(new_life: Callable[[], Lives]) -> None:
    run_state_machine_as_test(
        cast(Any, new_life),  # any callable will do
        settings=hypothesis.settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            database=None,
        ),
    )
