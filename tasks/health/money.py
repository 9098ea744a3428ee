"""Costs against budgets. That a share is reached is told by alerts; here it is only said."""

from memlane.contract.health import Component, Finding, Severity, component
from memlane.tasks.health.facts import ControlFacts


def judge(control: ControlFacts | None) -> Component:
    """Whether budgets are used up."""
    if control is None:
        return component("money", (), known=False)
    if not control.budgets_spent:
        return component("money", ())
    advice = "memlane budget list shows which; memlane budget set raises one"
    reason = f"{control.budgets_spent} used up: what they would pay for waits, or is refused"
    return component("money", [Finding("budgets", Severity.NOTICE, reason, advice)])
