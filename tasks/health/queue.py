"""The queue's health: how long work that is due waits, and what was set aside."""

from collections.abc import Iterator, Sequence

from memlane.config.settings import Settings
from memlane.contract.health import Component, Finding, Severity, component
from memlane.contract.status import JobStatus
from memlane.storage.status import summed
from memlane.tasks.health.asking import ANSWER_S
from memlane.tasks.health.facts import Facts

_INGEST = ("remember", "embed", "text_embed")
"""The kinds of jobs that ingest workers do."""

_PATIENCE = {"forget": 10.0, "optimize": 60.0}
"""How many times as long as others these may wait: what is forgotten is out of sight at once, and what has no index yet
is found without; they go one after the other, and an index may take an hour."""


def jobs_of(facts: Facts) -> list[JobStatus]:
    """The jobs of each kind, on all shards that said."""
    return summed(backlog for node in facts.nodes.values() for backlog in (node.backlogs or {}).values())


def ingest_waits_s(facts: Facts) -> float:
    """How long the oldest job that is due and that ingest workers do has waited, in seconds."""
    return max((job.oldest_s for job in jobs_of(facts) if job.kind in _INGEST), default=0.0)


def judge(facts: Facts, settings: Settings) -> Component:
    """Whether what is asked for is done in time."""
    silent = [name for name, node in facts.nodes.items() if node.backlogs is None]
    findings = [
        Finding(f"jobs of {name}", Severity.NOTICE, f"not counted within {ANSWER_S:g} s", "memlane status counts them")
        for name in silent
    ]
    return component("queue", [*findings, *_findings(jobs_of(facts), settings)], known=not silent)


def _findings(jobs: Sequence[JobStatus], settings: Settings) -> Iterator[Finding]:
    for job in jobs:
        times = _PATIENCE.get(job.kind, 1.0)
        if job.oldest_s > times * settings.queue_warn_s:
            severity = Severity.ERROR if job.oldest_s > times * settings.queue_most_s else Severity.WARNING
            reason = f"the oldest of {job.open} that is due has waited for {job.oldest_s:.0f} s"
            advice = "memlane doctor says whether workers live; if they do and are busy, add some"
            yield Finding(f"{job.kind} jobs", severity, reason, advice)
        if job.parked:
            advice = "memlane jobs parked list says why; then memlane jobs parked retry or drop"
            yield Finding(f"parked {job.kind} jobs", Severity.NOTICE, f"{job.parked} were set aside", advice)
