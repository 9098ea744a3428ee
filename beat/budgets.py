"""Budgets: tells once in each period that a share of a budget is reached."""

from shlex import quote

import structlog

from memlane.beat.duty import Slice
from memlane.beat.telling import PAUSE_S, TRIES, taken, tell_each
from memlane.config.sentry import report
from memlane.contract.cost import AtLimit, Period
from memlane.contract.money import dollars, exact
from memlane.storage import alerts
from memlane.storage.alerts import Alert
from memlane.tasks.lane import Lane

log = structlog.get_logger(__name__)


def budgets(lane: Lane, slice_: Slice) -> str:
    """Note, and tell, which shares of budgets were reached since the last time."""
    control, settings = lane.cluster.control, lane.settings
    for found in alerts.reach(control, settings.alert_percents):
        whose = "agent" if found.agent else "tenant"  # agents' names are in no log
        log.warning("budget.reached", tenant=found.tenant, of=whose, period=found.period, percent=found.percent)
        report(settings, "budget.reached", {"period": found.period.value, "percent": str(found.percent)})
    told = tell_each(
        lambda: alerts.claim(control, TRIES, PAUSE_S), lambda alert: _told(lane, alert), lambda: slice_.over
    )
    return f"{told} alerts"


def _told(lane: Lane, alert: Alert) -> bool:
    """Tell the channels; whether one took it."""
    if not taken(lane.settings.alert_urls, title_of(alert), text_of(alert), alert.tries):
        return False
    alerts.told(lane.cluster.control, alert)
    return True


def title_of(alert: Alert) -> str:
    """What it is about, in a line."""
    return f"memlane: {alert.percent} % of the {_EACH[alert.period]} budget of {_whose(alert)} is spent"


def text_of(alert: Alert) -> str:
    """Which budget, how much of it, until when, what happens now, and what to do."""
    agent = f" --agent {quote(alert.agent)}" if alert.agent else ""
    return "\n".join(
        (
            f"Budget: {exact(alert.limit_micro)} a {alert.period} for {_whose(alert)}.",
            f"Spent: {dollars(alert.spent_micro)} since {alert.starts} (UTC).",
            f"It begins anew on {alert.resets_at:%Y-%m-%d %H:%M} UTC.",
            _NOW[alert.at_limit] if alert.percent >= _ALL else _LATER[alert.at_limit],
            f"To see what it went for: memlane budget usage {alert.tenant}{agent} --by agent,model",
            f"To raise it: memlane budget set {alert.tenant} AMOUNT{agent} --per {alert.period}",
        )
    )


def _whose(alert: Alert) -> str:
    return f"agent {alert.agent} of tenant {alert.tenant}" if alert.agent else f"tenant {alert.tenant}"


_EACH = {Period.DAY: "daily", Period.MONTH: "monthly"}

_ALL = 100

_NOW = {
    AtLimit.DEFER: "Now: memories are stored, and found by their words; their vectors wait until then, or for a raise.",
    AtLimit.REJECT: "Now: new memories are refused with 402 until then, or until a raise.",
}

_LATER = {
    AtLimit.DEFER: "What does not fit into the rest any more is stored without its vector until then.",
    AtLimit.REJECT: "When it is used up, new memories are refused with 402 until then.",
}
