"""How requests fare: how long they take, how many fail, whether caches are of use. Few requests say nothing."""

from collections.abc import Iterator

from memlane import errors
from memlane.config.settings import Settings
from memlane.contract.health import Component, Finding, Severity, component
from memlane.tasks.health.rates import Grown, p95_ms, share

SEARCH = "search"
"""The part of a recall that is ours: without the time that its question's vector takes, which is the provider's."""

_ASKED = ("remember", "recall", SEARCH, "update", "forget", "list", "read")
"""The operations for which somebody waits."""

_QUESTIONS = "questions"
"""The cache that should find something: what is handed over to be remembered is new, and no cache can know it."""

FAR = 3.0
"""How many times a threshold is an error."""

_THEIRS = errors.not_ours()
"""Errors that are no failure of ours: the fault of whoever asks, or a limit that was set."""


def judge(growth: Grown | None, settings: Settings) -> Component:
    """Whether requests are answered, and soon. Without a look before there is nothing to compare with."""
    if growth is None:
        return component("requests", (), known=False)
    return component("requests", [*_times(growth, settings), *_failures(growth, settings)])


def _times(growth: Grown, settings: Settings) -> Iterator[Finding]:
    for name in growth.names("memlane_operation_seconds_count", "operation"):
        found = p95_ms(growth, name, settings.health_least) if name in _ASKED else None
        most = settings.recall_warn_ms if name == SEARCH else settings.response_warn_ms
        if found is not None and found > most:
            severity = Severity.ERROR if found > FAR * most else Severity.WARNING
            reason = f"5 % take longer than {found:.0f} ms; {most:g} ms are expected"
            yield Finding(f"time of {name}", severity, reason, _SLOW.get(name, _SLOW_ANY))


_SLOW_ANY = "look which component is strained; memlane nodes shows standbys that confirm late"

_SLOW = {
    "recall": "if search is not slow as well, the provider is: memlane_operation_seconds of embed has its times",
    SEARCH: "memlane optimize gives large agents an index; else add a node, or look at its disk and cores",
}


def _failures(growth: Grown, settings: Settings) -> Iterator[Finding]:
    for name in growth.names("memlane_operation_seconds_count", "operation"):
        if name == SEARCH:
            continue  # it is part of a recall, which fails with it
        failed = sum(
            count
            for labels, count in growth.of("memlane_operation_errors_total", operation=name)
            if labels.get("error") not in _THEIRS
        )
        percent = share(failed, growth.sum("memlane_operation_seconds_count", operation=name), settings.health_least)
        if percent is not None and percent > settings.error_warn_percent:
            severity = Severity.ERROR if percent > FAR * settings.error_warn_percent else Severity.WARNING
            advice = "memlane_operation_errors_total on /metrics names the errors; the logs and Sentry have them"
            yield Finding(f"errors of {name}", severity, f"{percent:.0f} % fail", advice)


def judge_cache(growth: Grown | None, most: float | None, settings: Settings) -> Component:
    """Whether the cache of questions is of use. Where each is new it cannot be: wrong is only that it was, and no more.

    Args:
        growth: what was counted lately.
        most: the largest share of looks that found something within the last hour, in percent; None: nobody knows.
        settings: for the thresholds.
    """
    if growth is None:
        return component("cache", (), known=False)
    percent = cached_percent(growth, settings)
    if percent is None or percent >= settings.cache_warn_percent:
        return component("cache", ())
    fell = percent < settings.cache_least_percent and most is not None and most >= settings.cache_warn_percent
    reason = f"{percent:.0f} % of looks find something" + (f"; it was {most:.0f} % within the hour" if fell else "")
    advice = "what is asked may be new each time; else the cache is too small, or was just emptied"
    severity = Severity.WARNING if fell else Severity.NOTICE
    return component("cache", [Finding(f"cache {_QUESTIONS}", severity, reason, advice)])


def cached_percent(growth: Grown, settings: Settings) -> float | None:
    """The share of looks into the cache of questions that found something, in percent; None if there were too few."""
    looks = growth.sum("memlane_cache_requests_total", cache=_QUESTIONS)
    hits = growth.sum("memlane_cache_requests_total", cache=_QUESTIONS, result="hit")
    return share(hits, looks, settings.health_least)
