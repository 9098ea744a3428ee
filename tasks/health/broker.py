"""The broker's health."""

from collections.abc import Iterator

from memlane.contract.health import Component, Finding, Severity, component
from memlane.contract.status import BrokerStatus
from memlane.tasks.health.asking import ANSWER_S
from memlane.tasks.health.facts import Facts


def judge(facts: Facts) -> Component:
    """Whether workers are woken."""
    if not facts.broker_asked:
        return component("broker", (), known=False)
    return component("broker", _findings(facts.broker))


def _findings(broker: BrokerStatus | None) -> Iterator[Finding]:
    if broker is None or not broker.up:
        reason = f"did not answer within {ANSWER_S:g} s" if broker is None else "does not answer"
        advice = "start it again; memories are taken in meanwhile, and wait for their work. memlane status shows it"
        yield Finding("broker", Severity.CRITICAL, reason, advice, sure=broker is not None)
        return
    if broker.settings.get("maxmemory-policy", "noeviction") != "noeviction":
        advice = "set maxmemory-policy noeviction in redis.conf: else it drops wake-ups when it is full"
        yield Finding("broker", Severity.WARNING, "may drop what it was given", advice)
    if broker.settings.get("appendonly") == "no":
        advice = "set appendonly yes: what producers hand over is lost with it until then"
        yield Finding("broker", Severity.NOTICE, "forgets what it was given when it ends", advice)
