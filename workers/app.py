"""The Celery app: the composition root, where queues, tasks, the lane and the schedule come together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Reject
from celery.schedules import schedule as every

from memlane.beat.duties import DUTIES, FORMER, SWEEP
from memlane.beat.schedule import schedule
from memlane.config.celery import celery_config
from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Misconfigured, Unavailable
from memlane.tasks import producers
from memlane.tasks.hooks import Operation
from memlane.tasks.pulse import new_name
from memlane.workers import drains, duties
from memlane.workers.lifecycle import Lifecycle

log = structlog.get_logger(__name__)

_PAUSE_S = 2.0
"""How long a producer's message that nobody can take in waits before it goes back to its queue."""


_TRACEPARENT = 100
"""Longest `traceparent` that is looked at; version 00 has 55 characters."""


class ProducersTask(Task):  # type: ignore[misc]  # Celery is not typed
    """A task whose arguments are content."""

    Request = "memlane.workers.request:MaskedRequest"
    acks_on_timeout = False  # it goes back to its queue
    soft_time_limit = 24 * 3600  # which would look like an error of the message: only the hard limit is meant

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it, whatever its arguments are called; Celery's own trips over one called self."""
        return self.run(*args, **kwargs)


def make_app(settings: Settings) -> Celery:
    """A Celery app with the queues and routes: enough to send wake-ups."""
    app = Celery("memlane", set_as_current=False)
    app.conf.update(celery_config(settings))
    return app


def make_worker_app(settings: Settings) -> Celery:
    """The app of workers and beats: with the tasks, the schedule, and what happens around a fork."""
    app = make_app(settings)
    app.conf.beat_schedule = _steady(schedule(settings, new_name()))
    app.set_current()
    life = Lifecycle(app, settings)
    life.connect()
    for name in drains.KINDS_OF:
        app.task(_drain_task(life, name), name=name, shared=False)
    for name in producers.TASKS:
        app.task(_producers_task(life, name), name=name, base=ProducersTask, bind=True, shared=False)
    # A sweep every few seconds would push the drains out of what Flower remembers.
    app.task(_sweep_task(life), name=f"beat.{SWEEP}", shared=False, send_events=False)
    for name in FORMER:
        app.task(_nothing, name=f"beat.{name}", shared=False)
    for name, duty in DUTIES.items():
        limits = {"soft_time_limit": duty.slice_s + duties.GRACE_S, "time_limit": duty.slice_s + duties.KILL_S}
        app.task(_duty_task(life, name), name=f"beat.{name}", shared=False, **limits)
    return app


def _steady(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A schedule that goes by the time since the machine began: whoever sets the clock neither stops nor hurries it."""
    return {name: {**one, "schedule": every(one["schedule"], nowfun=_steadily)} for name, one in entries.items()}


def _steadily() -> datetime:
    return datetime.fromtimestamp(monotonic(), UTC)


def _sweep_task(life: Lifecycle) -> Callable[..., None]:
    def run(*_args: object, beat: str | None = None, gone: bool = False, **_more: object) -> None:
        life.heard(beat, gone=gone)  # a newer version may send more
        with _refused(SWEEP), life.process.lane.hooks.around(Operation(f"beat.{SWEEP}")):
            life.sweep()

    return run


def _duty_task(life: Lifecycle, name: str) -> Callable[..., None]:
    def run(*_args: object, **_more: object) -> None:
        with _refused(name):
            duties.run_once(life.process.lane, life.process.holder, name)

    return run


def traceparent_of(given: object) -> str | None:
    """What came along as the trace of a message; whoever sent it may have sent anything."""
    return given if isinstance(given, str) and len(given) <= _TRACEPARENT else None


def _nothing(*_args: object, **_more: object) -> None:
    """A duty that there is no more."""


@contextmanager
def _refused(duty: str) -> Iterator[None]:
    """What a duty needs is down: it is due again soon, and a line says why it was not done."""
    try:
        yield
    except (Unavailable, Misconfigured) as error:
        log.warning("duty.refused", duty=duty, why=str(error))


def _drain_task(life: Lifecycle, name: str) -> Any:
    def run(shard: int, *_args: object, wakeup: str | None = None, traceparent: object = None, **_more: object) -> str:
        cause = traceparent_of(traceparent)
        return str(drains.drain(life.process, name, shard, wakeup, cause))  # what Flower shows as the result

    return run


def _producers_task(life: Lifecycle, name: str) -> Any:
    def run(task: Task, /, *args: Any, **message: Any) -> None:
        if args:
            message = {**message, "positional": list(args)}  # which does not validate, and so is kept
        try:
            cause = traceparent_of(task.request.get("traceparent"))
            producers.deliver(life.process.lane, name, message, task.request.id, life.process.rates, cause)
        except Exception as error:  # noqa: BLE001  # whatever it is: Celery would acknowledge the message
            why = str(error) if isinstance(error, MemlaneError) else type(error).__name__
            log.warning("producer.put_back", task=name, why=why)
            sleep(_PAUSE_S)
            raise Reject(why, requeue=True) from None

    return run
