"""`memlane profile`: it runs what is run for real, leaves nothing behind, and shows the plans that processes get."""

import asyncio
import json
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from typer.testing import CliRunner

from memlane.bench.naming import form_of, name_of
from memlane.bench.profile_recall import profile_recall
from memlane.bench.profile_remember import profile_remember
from memlane.bench.steps import Profile
from memlane.cli.app import app
from memlane.config.settings import Settings
from memlane.contract import RecallRequest
from memlane.storage import queries, recall, rehearsal
from memlane.storage.jobs import Kind
from memlane.storage.traced import Trace
from memlane.tasks import optimize
from memlane.tasks.lane import Lane
from tests.processes import environment
from tests.support import accepted, count_rows, drain_all, item, remembered, sql


def everything(settings: Settings) -> dict[str, Any]:
    """All rows of all tables of both nodes, as text, counted by the test itself."""
    found = {}
    for node in settings.nodes:
        with sql(settings, node) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname ~ '^(shard_|control)'"
            ).fetchall()
            for schema, table in tables:
                rows = connection.execute(
                    SQL("SELECT md5(string_agg(t::text, '|' ORDER BY t::text)), count(*) FROM {} t").format(
                        Identifier(schema, table)
                    )
                ).fetchone()
                found[f"{node} {schema}.{table}"] = rows
    return found


def steps_of(found: Profile) -> list[tuple[str, str]]:
    return [(step.stage, step.step) for step in found.steps]


def recalled(settings: Settings, query: str = "green tea", *, plans: bool = False, times: int = 3) -> Profile:
    return asyncio.run(profile_recall(settings, "acme", RecallRequest(agent="ada", query=query), times, plans=plans))


def test_a_recall_is_told_step_by_step(lane: Lane, settings: Settings) -> None:
    remembered(lane, item("green tea"), item("black tea"), item("a red scarf"))
    found = recalled(settings, "what does she drink?")
    assert [step for step in steps_of(found) if "Python" not in step[1]] == [
        ("vector", "cache asked"),
        ("vector", "provider asked"),
        ("vector", "budgets asked"),
        ("vector", "usage noted"),
        ("search", "agent found"),
        ("search", "candidates (exact)"),
        ("search", "ranking"),
        ("search", "hits read"),
    ]
    assert all((step.median_ms or 0) <= found.p95_ms for step in found.steps)
    assert found.round_trips == sum(step.round_trips for step in found.steps) == 7  # the cache knows texts by two names
    assert {step.step: step.round_trips for step in found.steps}["hits read"] == 1
    assert "3 hits" in found.notes


def test_a_question_that_the_cache_knows_is_asked_of_the_provider_beside(lane: Lane, settings: Settings) -> None:
    remembered(lane, item("green tea"))
    stages = dict.fromkeys(stage for stage, _ in steps_of(recalled(settings)))
    assert list(stages) == ["vector", "search", "if not cached"]


def test_the_form_of_the_statement_is_told(lane: Lane, settings: Settings) -> None:
    few = settings.model_copy(update={"promote_at": 2})
    lane.settings = few
    remembered(lane, item("one"), item("two"), item("three"))
    shard = lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))
    assert optimize.optimize_shard(lane, shard, None) == 1
    found = recalled(settings, plans=True)
    assert ("search", "candidates (indexed)") in steps_of(found)
    (plan,) = [plan for plan in found.plans if plan.step.startswith("candidates")]
    assert "Index Scan using" in plan.plan
    assert "Order By: (embedding <#>" in plan.plan


def test_plans_are_those_of_the_processes_sessions(lane: Lane, settings: Settings) -> None:
    """Made once for all values, and by an index: the values are not in them, the places are."""
    remembered(lane, item("green tea"))
    found = recalled(settings, plans=True)
    plans = {plan.step: plan for plan in found.plans}
    assert set(plans) >= {"agent found", "candidates (exact)", "hits read"}
    assert "Index Cond: ((tenant = $" in plans["agent found"].plan
    for plan in plans.values():
        assert "Execution Time" in plan.plan
        assert "Seq Scan" not in plan.plan
    assert "Buffers" in plans["hits read"].plan


def test_a_remember_is_told_step_by_step_and_leaves_nothing(lane: Lane, settings: Settings) -> None:
    remembered(lane, item("green tea"))
    accepted(lane, item("of others, who wait", agent="bob"), tenant="aaa")
    accepted(lane, item("who waits as well"))
    before = everything(settings)
    found = profile_remember(settings, "acme", item("black tea", thread="t"), 3, plans=True)
    assert everything(settings) == before
    assert [(step.stage, step.step) for step in found.steps if step.round_trips and step.runs] == [
        ("accept", "identity, job, ledger"),
        ("claim", "jobs leased"),
        ("embed and store", "cache asked"),
        ("embed and store", "budgets asked"),
        ("embed and store", "usage noted"),
        ("embed and store", "cache told"),
        ("embed and store", "memory and vector stored"),
        ("beside", "a commit"),
    ]
    plans = {plan.step: plan for plan in found.plans}
    assert "Insert on ids" in plans["identity, job, ledger"].plan
    assert plans["identity, job, ledger"].inside == ("fence",)
    assert "Insert on memories" in plans["memory and vector stored"].plan
    assert [plan.step for plan in found.plans if "SQLSTATE" in plan.plan] == []


def test_an_agent_that_is_new_is_not_there_afterwards(lane: Lane, settings: Settings) -> None:
    found = profile_remember(settings, "acme", item("tea", agent="nobody yet"), 2, plans=False)
    assert ("accept", "agent registered") in steps_of(found)
    assert count_rows(settings, lane.cluster, "agents") == 0


def test_nobody_sees_or_takes_the_job(lane: Lane, settings: Settings) -> None:
    """While it is there it is there for its own transaction alone, and others' jobs stay theirs."""
    accepted(lane, item("who waits"))
    trace = Trace()
    rehearsing = Lane(settings, "profile", make_node=trace.node)
    rehearsing.open()
    with trace.undone():
        accepted(rehearsing, item("a rehearsal"))
        assert count_rows(settings, lane.cluster, "jobs") == 1
        drain_all(lane, Kind.REMEMBER)
    rehearsing.close()
    assert count_rows(settings, lane.cluster, "memories") == 1
    assert count_rows(settings, lane.cluster, "jobs") == 0


def test_a_commit_leaves_nothing(lane: Lane, settings: Settings) -> None:
    before = everything(settings)
    rehearsal.commit(lane.cluster.shard(0))
    assert everything(settings) == before


@pytest.mark.parametrize("table", ["agents", "ids", "jobs", "memories", "embedding_cache", "spending"])
def test_statements_are_known_by_their_names(table: str, lane: Lane) -> None:
    for query in queries.load(table).values():
        statement = query.render(shard="shard_03", vectors=lane.table, timeline="x", delays="y", later="z", holds="a")
        assert name_of(statement) == query.name or query.text.startswith("{")
    for name in [name for name in recall._SQL if name.endswith("_similarity")]:
        similarity = recall._SQL[name].text.replace("{filtered}", "true").replace("{with_memories}", "")
        parts = {"similarity": similarity, "holds": "true", "visible": "true", "shard": "shard_03", "vectors": "v"}
        assert form_of(recall._SQL["candidates"].render(**parts, agent="1", upto="2")) != "unknown"


def test_the_command_prints_a_table_and_one_document(lane: Lane, settings: Settings) -> None:
    remembered(lane, item("green tea"))
    runner = CliRunner(env={**environment(settings), "COLUMNS": "100"})
    words = ["--tenant", "acme", "--times", "2"]
    done = runner.invoke(app, ["profile", "recall", "ada", "green tea", *words, "--plans"])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.partition("\n  ")[0].splitlines())) <= 100
    assert "candidates (exact)" in done.output
    assert "Execution Time" in done.output
    done = runner.invoke(app, ["profile", "remember", "ada", "tea", *words, "--json"])
    assert json.loads(done.output)["operation"] == "remember"
