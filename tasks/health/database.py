"""The database's health: each node, its standbys, each shard."""

from collections.abc import Iterator

from memlane.config.settings import Settings
from memlane.contract.health import Component, Finding, Severity, component
from memlane.contract.status import MemberStatus, NodeStatus, Role
from memlane.tasks.health.asking import ANSWER_S
from memlane.tasks.health.facts import Facts, NodeFacts

_KEEPS = ("fsync", "full_page_writes", "synchronous_commit")


def judge(facts: Facts, settings: Settings) -> Component:
    """Whether everything that is kept can be read and written, and survives."""
    findings = [found for name, node in facts.nodes.items() for found in _node(facts, name, node, settings)]
    return component("database", findings)


def _node(facts: Facts, name: str, node: NodeFacts, settings: Settings) -> Iterator[Finding]:
    subject = f"node {name}"
    what = " (it holds control)" if name == facts.control_node else ""
    if node.status is None or not node.status.up:
        silent = node.status is None
        reason = f"did not answer within {ANSWER_S:g} s{what}" if silent else f"does not answer{what}"
        yield Finding(subject, Severity.CRITICAL, reason, _start(name, node.status), sure=not silent)
        return
    yield from _promises(subject, node.status)
    yield from _standbys(subject, node.status, settings)
    for number, backlog in (node.backlogs or {}).items():
        if backlog is None:
            advice = f"memlane shards; the log of {name} says why its schema cannot be read"
            yield Finding(f"shard {number}", Severity.ERROR, f"does not answer, though node {name} does", advice)


def _start(name: str, status: NodeStatus | None) -> str:
    if status is not None and any(member.role is Role.STANDBY for member in status.members):
        return f"memlane nodes, then start its primary again, or memlane nodes promote {name}"
    return f"start Postgres of {name} again; its log says why it ended. memlane nodes shows when it is back"


def _promises(subject: str, status: NodeStatus) -> Iterator[Finding]:
    off = [name for name in _KEEPS if status.settings.get(name) == "off"]
    if off:
        reason = f"{', '.join(off)} off: what is confirmed may be lost with the machine"
        yield Finding(subject, Severity.WARNING, reason, "set them to on in postgresql.conf, and reload")


def _standbys(subject: str, status: NodeStatus, settings: Settings) -> Iterator[Finding]:
    if status.alarm is not None:
        advice = f"memlane nodes; memlane nodes rejoin {status.name} lets a former primary follow again"
        severity = {"TWO": Severity.CRITICAL, "NOT": Severity.ERROR}.get(status.alarm.split()[0], Severity.WARNING)
        yield Finding(f"standbys of {subject}", severity, status.alarm, advice, sure=severity is Severity.CRITICAL)
    for member in status.members:
        if _behind(member) > settings.lag_warn_bytes:
            reason = f"is {_behind(member):,} bytes behind its primary"
            advice = "look at its disk and its link; a primary keeps what a standby lacks, and its disk may fill"
            yield Finding(f"standby {member.address}", Severity.WARNING, reason, advice)


def _behind(member: MemberStatus) -> int:
    return max(member.lag_bytes, member.replay_lag_bytes) if member.role is Role.STANDBY else 0
