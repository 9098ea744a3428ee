"""The indexes of large agents: whether they bring up what exact search would."""

from memlane.config.settings import Settings
from memlane.contract.health import Component, Finding, Severity, component
from memlane.tasks.health.facts import ControlFacts

_ADVICE = (
    "memlane optimize --list shows which; what helps is tried at each run of the duty: more of an index is looked at, "
    "then it is built better, then the agent is searched exactly"
)


def judge(control: ControlFacts | None, settings: Settings) -> Component:
    """Whether the canary, when it sang last, found too little missing to matter."""
    if control is None:
        return component("indexes", (), known=False)
    findings = [
        Finding(
            f"indexes of shard {shard}",
            Severity.WARNING,
            f"{told.low} of {told.indexes} bring up too little: recall@10 is {told.recall:.2f}, less than "
            f"{settings.index_recall:.2f}",
            _ADVICE,
        )
        for shard, told in sorted(control.indexes.items())
        if told.low and told.recall is not None
    ]
    return component("indexes", findings)
