"""The Celery app: the composition root, where queues, tasks, the lane and the schedule come together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import Any

import structlog
from celery import Celery, Task
from celery.exceptions import Reject

from memlane.beat.schedule import schedule
from memlane.config.celery import celery_config
from memlane.config.settings import Settings
from memlane.errors import MemlaneError, Misconfigured, Unavailable
from memlane.tasks import producers
from memlane.workers import drains, duties
from memlane.workers.lifecycle import Lifecycle

log = structlog.get_logger(__name__)

_PAUSE_S = 2.0
"""How long a producer's message that nobody can take in waits before it goes back to its queue."""


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
    app.conf.beat_schedule = schedule(settings)
    app.set_current()
    life = Lifecycle(app, settings)
    life.connect()
    for name in drains.KINDS_OF:
        app.task(_drain_task(life, name), name=name, shared=False)
    for name in producers.TASKS:
        app.task(_producers_task(life, name), name=name, base=ProducersTask, bind=True, shared=False)
    # A sweep every few seconds would push the drains out of what Flower remembers.
    app.task(_sweep_task(life), name="beat.sweep", shared=False, send_events=False)
    for name in duties.duties(settings):
        app.task(_duty_task(life, name), name=f"beat.{name}", shared=False)
    return app


def _sweep_task(life: Lifecycle) -> Callable[..., None]:
    def run(*_args: object, **_more: object) -> None:  # a newer version may send more
        with _refused("sweep"):
            life.sweep()

    return run


def _duty_task(life: Lifecycle, name: str) -> Callable[..., None]:
    def run(*_args: object, **_more: object) -> None:
        with _refused(name):
            duties.run_once(life.process.lane, life.process.holder, name)

    return run


@contextmanager
def _refused(duty: str) -> Iterator[None]:
    """What a duty needs is down: it is due again soon, and a line says why it was not done."""
    try:
        yield
    except (Unavailable, Misconfigured) as error:
        log.warning("duty.refused", duty=duty, why=str(error))


def _drain_task(life: Lifecycle, name: str) -> Any:
    def run(shard: int, *_args: object, wakeup: str | None = None, **_more: object) -> str:
        return str(drains.drain(life.process, name, shard, wakeup))  # what Flower shows as the result

    return run


def _producers_task(life: Lifecycle, name: str) -> Any:
    def run(task: Task, /, *args: Any, **message: Any) -> None:
        if args:
            message = {**message, "positional": list(args)}  # which does not validate, and so is kept
        try:
            producers.deliver(life.process.lane, name, message, task.request.id, life.process.rates)
        except Exception as error:  # noqa: BLE001  # whatever it is: Celery would acknowledge the message
            why = str(error) if isinstance(error, MemlaneError) else type(error).__name__
            log.warning("producer.put_back", task=name, why=why)
            sleep(_PAUSE_S)
            raise Reject(why, requeue=True) from None

    return run
