"""The safeguards, and how each is switched off: a small removal that a test has to notice."""

from dataclasses import dataclass

_MACHINE = "tests/integration/test_job_machine.py"
_DRAINS = "tests/integration/test_drains.py"
_SWEEP = "tests/integration/test_sweep.py"
_FORGET = "tests/integration/test_forget.py"
_STORM = "tests/faults/test_storm.py"
_LIMITS = "tests/faults/test_limits.py"
_SPENDING = "tests/integration/test_spending.py"
_VERSIONS = "tests/integration/test_versions.py"
_COHERENCE = "tests/contract/test_coherence.py"
_RENEWS = "storage/migrations/shard/0009_pre_versions.sql"
_MONEY = "storage/migrations/control/0003_pre_limits.sql"


@dataclass(frozen=True)
class Mutant:
    """A safeguard that is switched off.

    Attributes:
        name: of the safeguard.
        meaning: what is taken away.
        path: the file, from the root of the tree.
        before: what stands there, exactly once.
        after: what is put in its place.
        tests: those that should notice, the quickest first.
    """

    name: str
    meaning: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file without the safeguard.

        Raises:
            ValueError: it does not stand there exactly once.
        """
        if (times := text.count(self.before)) != 1:
            raise ValueError(f"{self.name}: what is to be replaced stands {times} times in {self.path}")
        return text.replace(self.before, self.after)


_BY_LEASE = "    SELECT number FROM {shard}.jobs JOIN ended ON lease = token ORDER BY number FOR UPDATE OF jobs\n"
_BY_NUMBER = (
    "    SELECT number FROM {shard}.jobs WHERE number = ANY(%(numbers)s::bigint[]) ORDER BY number FOR UPDATE OF jobs\n"
)
_ENDED = """WITH ended AS (
    DELETE FROM {shard}.leases USING {shard}.fence(%(epoch)s) WHERE token = %(token)s RETURNING token
), held AS (
"""
_STORE = " for the rest.\n"
_ATTACH = "-- later; what was forgotten meanwhile needs none.\n"

MUTANTS = (
    Mutant(
        "lease token in store",
        "whoever has claimed a remember job once may finish it, whether or not the lease is still held",
        "storage/sql/memories.sql",
        _STORE + _ENDED + _BY_LEASE,
        _STORE + _ENDED + _BY_NUMBER,
        (f"{_DRAINS}::test_a_lost_lease_is_fenced", _MACHINE, _STORM),
    ),
    Mutant(
        "lease token in attach",
        "whoever has claimed an embed job once may finish it, whether or not the lease is still held",
        "storage/sql/memories.sql",
        _ATTACH + _ENDED + _BY_LEASE,
        _ATTACH + _ENDED + _BY_NUMBER,
        ("tests/integration/test_update.py", _MACHINE, _STORM),
    ),
    Mutant(
        "epoch in the fence",
        "a writer whose map is stale writes all the same",
        "storage/migrations/shard/0001_shard.sql",
        "IF here.state <> 'active' OR here.epoch <> expected THEN",
        "IF here.state <> 'active' THEN",
        ("tests/integration/test_accept.py",),
    ),
    Mutant(
        "expiry of leases",
        "a lease that ran out keeps its jobs",
        "storage/sql/jobs.sql",
        "    WHERE expires_at < now()\n    RETURNING token, created_at",
        "    WHERE false\n    RETURNING token, created_at",
        (f"{_STORM}::test_a_killed_workers_jobs_are_done_within_the_lease_and_a_little",),
    ),
    Mutant(
        "deaths",
        "that a holder died counts for nothing, so nothing is narrowed down",
        "storage/sql/jobs.sql",
        "jobs.deaths + dead.counts::int AS deaths",
        "jobs.deaths AS deaths",
        (f"{_DRAINS}::test_dead_holders_make_claims_smaller_until_a_job_is_parked", _MACHINE),
    ),
    Mutant(
        "restarts of a node",
        "a lease that ran out while its node was down counts as a death",
        "storage/sql/jobs.sql",
        "created_at > pg_postmaster_start_time() AND coalesce",
        "coalesce",
        (f"{_SWEEP}::test_a_holder_on_a_node_that_was_restarted_did_not_die",),
    ),
    Mutant(
        "change of the primary",
        "a lease that ran out while a standby became the primary counts as a death",
        "storage/sql/jobs.sql",
        "AND coalesce(timeline = {timeline}, true) AS counts",
        "AND {timeline} IS NOT NULL AS counts",
        (_SWEEP,),
    ),
    Mutant(
        "leases are given back after an outage",
        "what could not be given back while its node was down is forgotten, and runs out",
        "workers/returns.py",
        "        if self._settled(owed):\n            return\n",
        "        self._settled(owed)\n        return\n",
        ("tests/faults/test_outages.py",),
    ),
    Mutant(
        "the sweep",
        "nobody looks for work that nobody does",
        "beat/sweep.py",
        '        """Sweep once; a node that is still being swept is left out."""\n',
        '        """Sweep once; a node that is still being swept is left out."""\n        return\n',
        (f"{_STORM}::test_a_wiped_redis_is_recovered_from_within_seconds",),
    ),
    Mutant(
        "renewal of leases",
        "a lease is not renewed while its work goes on",
        "workers/keeper.py",
        "        if now - renewed >= lease_s / 3:\n",
        "        if False:\n",
        (f"{_DRAINS}::test_the_keeper_renews_while_the_provider_takes_its_time",),
    ),
    Mutant(
        "identities",
        "an id that was accepted before is accepted again",
        "storage/sql/ids.sql",
        "    ON CONFLICT (agent, id) DO NOTHING\n    RETURNING number\n",
        "    ON CONFLICT (agent, id) DO UPDATE SET number = EXCLUDED.number\n    RETURNING number\n",
        (f"{_STORM}::test_nothing_is_lost_doubled_or_resurrected",),
    ),
    Mutant(
        "delete before insert",
        "effects are written for the claimed jobs, whether or not the delete got them",
        "storage/sql/memories.sql",
        """), gone AS (
    DELETE FROM {shard}.jobs USING held WHERE jobs.number = held.number
    RETURNING jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.position, jobs.payload, jobs.created_at
), owners""",
        """), deleted AS (
    DELETE FROM {shard}.jobs USING held WHERE jobs.number = held.number
), gone AS (
    SELECT jobs.number, jobs.tenant, jobs.agent, jobs.id, jobs.position, jobs.payload, jobs.created_at
    FROM {shard}.jobs JOIN ended ON lease = token
), owners""",
        (f"{_FORGET}::test_forgetting_against_finishing", _MACHINE, _STORM),
    ),
    Mutant(
        "the mark of a forgotten agent",
        "a finish does not look whether its agent was forgotten meanwhile",
        "storage/sql/memories.sql",
        "gone.number < owners.forgotten_before AS forgotten",
        "false AS forgotten",
        (f"{_FORGET}::test_an_agent_while_a_drain_holds_its_jobs", _MACHINE, _STORM),
    ),
    Mutant(
        "time-out of locks",
        "a statement waits for a lock as long as for anything",
        "storage/connections.py",
        '        "lock_timeout": timeout_ms // 2,\n',
        "",
        (_LIMITS,),
    ),
    Mutant(
        "time-out of idle transactions",
        "a session that stalls in a transaction keeps its locks until the sweep comes",
        "storage/connections.py",
        '        "idle_in_transaction_session_timeout": timeout_ms,\n',
        "",
        (_LIMITS,),
    ),
    Mutant(
        "end of stalled sessions",
        "the sweep ends no session",
        "storage/sql/jobs.sql",
        "WHERE datname = current_database() AND pid <> pg_backend_pid()\n",
        "WHERE false\n",
        (f"{_SWEEP}::test_a_session_that_stalls_in_a_transaction_is_ended",),
    ),
    Mutant(
        "fsync of the embedded Postgres",
        "a commit does not wait for the disk",
        "embedded/postgres.py",
        '    "wal_level": "logical",\n',
        '    "wal_level": "logical",\n    "fsync": "off",\n',
        (f"{_STORM}::test_a_wiped_redis_is_recovered_from_within_seconds",),
    ),
    Mutant(
        "lock of budgets",
        "who draws on a budget does not wait for who does so at the same moment",
        _MONEY,
        "        ORDER BY s.tenant, s.agent, s.period FOR UPDATE OF s;\n    END IF;\n",
        "        ORDER BY s.tenant, s.agent, s.period;\n    END IF;\n",
        (f"{_SPENDING}::test_a_race_for_a_budget",),
    ),
    Mutant(
        "what is set aside counts",
        "a budget looks at what is settled alone",
        _MONEY,
        "          AND s.settled + s.reserved + a.tokens * reserve.price > b.limit_micro * 1000000::numeric)\n",
        "          AND s.settled + a.tokens * reserve.price > b.limit_micro * 1000000::numeric)\n",
        (f"{_SPENDING}::test_who_is_over_is_left_out_and_the_rest_goes_on", _SPENDING),
    ),
    Mutant(
        "charge of what nobody settles",
        "what a killed process has set aside stays so",
        "beat/sweep.py",
        "        begun_now.append(self._charge())\n",
        "",
        (f"{_SPENDING}::test_a_reservation_that_nobody_settles_becomes_a_charge",),
    ),
    Mutant(
        "refusals by group",
        "who is over budget is not left out of a request",
        "tasks/spending.py",
        "        granted = {place: ask for place, ask in asked.items() if answers[ask.group].granted}\n",
        "        granted = dict(asked)\n",
        (f"{_SPENDING}::test_who_is_over_is_left_out_and_the_rest_goes_on",),
    ),
    Mutant(
        "pause of all processes",
        "a provider's Retry-After holds for the process that was refused",
        "tasks/pace/shared.py",
        "        self._end(lambda turn: self._line.refused(self._id, turn, retry_after_s))\n",
        "        self._end(lambda turn: self._line.unused(self._id, turn))\n",
        ("tests/integration/test_pace.py",),
    ),
    Mutant(
        "no claims without memory",
        "a worker that holds all the memory that it may goes on claiming",
        "workers/throttle.py",
        "        if percent >= self.stop - EASE * (before is Level.NONE):\n            return Level.NONE\n",
        "",
        ("tests/integration/test_throttle.py",),
    ),
    Mutant(
        "shares of tenants",
        "a claim takes what is oldest, whoever it belongs to",
        "storage/sql/jobs.sql",
        "    SELECT tenant, weight, 1 + (%(limit)s::int - scan.places) * weight / weights AS share\n",
        "    SELECT tenant, weight, %(limit)s::int AS share\n",
        ("tests/integration/test_shares.py",),
    ),
    *(
        Mutant(
            f"versions: {name}",
            f"caches are not told that {meaning}",
            _RENEWS,
            "ON {shard}.agents FOR EACH ROW EXECUTE",
            f"ON {{shard}}.agents FOR EACH ROW WHEN ({renews}) EXECUTE",
            (f"{_VERSIONS}::test_every_change_renews_the_version[{test}]", _COHERENCE),
        )
        for name, meaning, renews, test in (
            ("store", "a memory was stored", "NEW.memories <= OLD.memories", "remember"),
            ("update", "one was updated", "OLD.memories <> NEW.memories OR OLD.version <> NEW.version", "update"),
            ("forget one", "one was forgotten", "NEW.memories >= OLD.memories", "forget"),
            ("forget matching", "what passes filters was forgotten", "NEW.memories >= OLD.memories", "forget matching"),
            ("expiry", "one has expired and was removed", "NEW.memories >= OLD.memories", "expire"),
            ("forget all", "an agent was forgotten", "NEW.forgotten_before = OLD.forgotten_before", "forget all"),
        )
    ),
    Mutant(
        "versions: attach",
        "caches are not told that a vector came later",
        _RENEWS,
        "WHEN (OLD.state = 'stored' AND NEW.state = 'searchable')",
        "WHEN (false)",
        (f"{_VERSIONS}::test_every_change_renews_the_version[attach]",),
    ),
    Mutant(
        "answers go by the version",
        "an answer is given again whatever has changed",
        "tasks/caches/levels.py",
        "ids = self.version.epoch.bytes + self.version.version.bytes",
        "ids = self.version.epoch.bytes",
        (f"{_VERSIONS}::test_an_answer_is_under_its_version_and_not_given_after_its_time", _COHERENCE),
    ),
    Mutant(
        "answers end with what is in them",
        "an answer outlives the memories in it that expire",
        "gateway/answers.py",
        "ends = [memory.expires_at.timestamp() for memory in memories if memory.expires_at is not None]",
        "ends: list[float] = []",
        ("tests/contract/test_caches.py::test_an_answer_ends_with_what_is_in_it",),
    ),
)
"""All of them, in the order of the table."""
