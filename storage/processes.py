"""Processes: what each says of itself every few seconds; who says nothing any more without a good-bye is lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from memlane.storage import queries
from memlane.storage.nodes import Node

_SQL = queries.load("processes")


@dataclass(frozen=True, slots=True)
class Report:
    """What a process says: how it is now, and what it has done since it began, by the names of series."""

    gauges: Mapping[str, float]
    counts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Process:
    """A process as control knows it.

    Attributes:
        name: host, pid, and a part that no other has had.
        class_: a class of workers, `gateway` or `beat`.
        started_at: when it was first heard of.
        seen_at: when it was last heard of.
        silent_s: how long ago that is, by the database's clock, in seconds.
        gauges: how it was then.
    """

    name: str
    class_: str
    started_at: datetime
    seen_at: datetime
    silent_s: float
    gauges: Mapping[str, float]

    def lives(self, lost_s: float) -> bool:
        """Whether it was heard of within so many seconds; who was not is lost."""
        return self.silent_s < lost_s


def beat(control: Node, name: str, report: Report) -> bool:
    """Note what a process says of itself; False if it is not known, or not any more: it has to begin anew."""
    return bool(control.run(_SQL["beat"].render(), _said(name, report)))


def begin(control: Node, name: str, class_: str, report: Report) -> None:
    """Note what a process says for the first time, or for the first time since it was given up."""
    control.run(_SQL["begin"].render(), {**_said(name, report), "class": class_})


def heard(control: Node, class_: str, ages: Mapping[str, float]) -> None:
    """Note that others were heard of, so many seconds ago each; they cannot say it themselves."""
    params = {"class": class_, "names": list(ages), "ages": list(ages.values())}
    control.run(_SQL["heard"].render(), params)
    control.run(_SQL["knows"].render(), {"class": class_})


def gone(control: Node, name: str, class_: str) -> None:
    """Another that cannot say it himself ends in good order, whoever says later that he has heard of it before."""
    control.run(_SQL["gone"].render(), {"name": name, "class": class_})


def drop_gone(control: Node) -> None:
    """Let go of those who said good-bye by way of others."""
    control.run(_SQL["drop_gone"].render())


def set_back(control: Node) -> None:
    """See that nobody was heard of in what is the future since control's clock was set back."""
    control.run(_SQL["set_back"].render())


def end(control: Node, name: str) -> None:
    """A process ends in good order; what it has counted stays in the sums."""
    control.run(_SQL["end"].render(), {"name": name}, writes=True)


def forget(control: Node, names: Sequence[str], lost_s: float) -> None:
    """Let go of these, unless they were heard of meanwhile; what they had counted stays in the sums."""
    control.run(_SQL["forget"].render(), {"names": list(names), "lost_s": lost_s}, writes=True)


def living(control: Node) -> list[Process]:
    """All processes that did not say good-bye, those that are lost as well."""
    return [Process(*row) for row in control.run(_SQL["living"].render())]


def classes(control: Node) -> frozenset[str]:
    """The classes of which there ever was a process that told, or was told, of itself."""
    return frozenset(class_ for (class_,) in control.run(_SQL["classes"].render()))


def counts(control: Node) -> dict[str, float]:
    """What all processes have counted, by the names of series, those that are gone as well."""
    return dict(control.run(_SQL["counts"].render()))


def _said(name: str, report: Report) -> dict[str, object]:
    return {"name": name, "gauges": Jsonb(dict(report.gauges)), "counts": Jsonb(dict(report.counts))}
