"""The processes' health: who is lost, whom another has replaced, and which class has none that lives.

Ingest workers, those that sweep, and beats are needed, once there was one: those of the version before say nothing, and
are not missed while they are replaced. Another class is missed once one of its processes was lost; one that never had
any, or whose last said good-bye, is not (its duties are missed by themselves).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from memlane.config.settings import Settings, WorkerClassName
from memlane.contract.health import Band, Component, Finding, Severity, component
from memlane.storage.processes import Process
from memlane.tasks.health.facts import ControlFacts, Facts
from memlane.tasks.pulse import BEAT

NEEDED = (WorkerClassName.INGEST.value, WorkerClassName.SWEEP.value, BEAT)
"""The classes of which one has to live."""

REPLACED_S = 120.0
"""How long a lost process that another has replaced is still known."""

UNREPLACED_S = 3600.0
"""How long one is that nobody has replaced."""


_PAUSES = 3
"""A beat is lost after as many of the longest pauses between what is heard of it."""


def lost_after(class_: str, settings: Settings) -> float:
    """After how long without a word a process is lost, in seconds.

    Beats are heard by way of sweeps: a sweep may wait for a node until the next is due, and a pulse later it is said.
    """
    if class_ != BEAT:
        return settings.lost_s
    return max(settings.lost_s, _PAUSES * (2 * settings.sweep_every_s + settings.pulse_s))


def judge(facts: Facts, settings: Settings) -> Component:
    """Whether all live who should. Who could not tell control that he lives is not lost."""
    control, lost_s = facts.control, settings.lost_s
    if control is None or control.steady_s < lost_s + settings.pulse_s:
        return component("processes", (), known=False)
    classes: dict[str, list[Process]] = defaultdict(list)
    for name in control.classes & frozenset(NEEDED):
        classes[name] = []
    for process in control.processes:
        classes[process.class_].append(process)
    if not _beats_are_heard(facts, control, settings):
        classes.pop(BEAT, None)
    findings = (_class(name, found, lost_after(name, settings)) for name, found in classes.items())
    return component("processes", [finding for found in findings for finding in found])


def _beats_are_heard(facts: Facts, control: ControlFacts, settings: Settings) -> bool:
    """Whether beats would be heard if they lived: through the broker, by one who sweeps, and that for long enough.

    One who sweeps may only just have gone on after a halt, so what is not heard is believed at the second look.
    """
    if facts.broker is None or not facts.broker.up:
        return False
    before = control.last.health.components if control.last is not None else ()
    if any(part.name == "broker" and part.band is Band.CRITICAL for part in before):
        return False
    return any(
        process.class_ == WorkerClassName.SWEEP
        and process.lives(settings.lost_s)
        and control.now - process.started_at > timedelta(seconds=lost_after(BEAT, settings) + settings.pulse_s)
        for process in control.processes
    )


def _class(name: str, found: Sequence[Process], lost_s: float) -> Iterator[Finding]:
    subject = f"{name} processes"
    lost = [process for process in found if not process.lives(lost_s)]
    missed = unreplaced(found, lost_s)
    if len(lost) == len(found) and (lost or name in NEEDED):
        what = f"none lives: {_named(lost)} not heard of any more" if lost else "none lives"
        yield Finding(subject, Severity.CRITICAL, what, _start(name), sure=bool(lost) and name != BEAT)
    elif missed:
        reason = f"{len(missed)} of {len(found)} lost, and not replaced: {_named(missed)}"
        yield Finding(subject, Severity.ERROR, reason, _start(name), sure=name != BEAT)
    elif any(process.silent_s < REPLACED_S for process in lost):
        advice = "nothing now; if it happens again, the log of its machine says what ended it"
        yield Finding(subject, Severity.NOTICE, f"{len(lost)} lost, and replaced: {_named(lost)}", advice)


def unreplaced(found: Sequence[Process], lost_s: float) -> list[Process]:
    """Those of a class that are lost, and for whom no other came: one that began since then replaces one of them.

    It does so even if it is lost by now: then another has to have come for that one.
    """
    missed: list[Process] = []
    came = sorted(found, key=lambda p: p.started_at, reverse=True)
    for lost in sorted((p for p in found if not p.lives(lost_s)), key=lambda p: p.seen_at, reverse=True):
        other = next((p for p in came if p is not lost and p.started_at > lost.seen_at), None)
        if other is None:
            missed.append(lost)
        else:
            came.remove(other)
    return missed


def forgettable(found: Sequence[Process], settings: Settings) -> list[str]:
    """Those that are known long enough since they were lost, by name."""
    gone = [process.name for process in found if process.silent_s >= UNREPLACED_S]
    for class_ in {process.class_ for process in found}:
        mine = [process for process in found if process.class_ == class_]
        missed = {process.name for process in unreplaced(mine, lost_after(class_, settings))}
        gone += [p.name for p in mine if REPLACED_S <= p.silent_s < UNREPLACED_S and p.name not in missed]
    return sorted(gone)


def _named(found: Sequence[Process]) -> str:
    names = [process.name.rpartition(":")[0] or process.name for process in found]
    return ", ".join(names[:3]) + (" and others" if len(names) > len(names[:3]) else "")


def _start(name: str) -> str:
    if name == BEAT:
        return "start a beat again (beats are heard of through sweep workers: look whether one lives)"
    return f"start the {name} {'' if name == 'gateway' else 'worker '}again; the log of its machine says what ended it"
