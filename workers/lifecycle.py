"""The life of a worker process: what is made after the fork, and how children learn that they have to stop."""

import mmap
import os
import socket
from uuid import uuid4

from celery import Celery, signals

from memlane.beat.sweep import Sweep
from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry, configure_sentry_after_fork, flush_sentry
from memlane.config.settings import Settings, WorkerClassName
from memlane.errors import MemlaneError
from memlane.storage.connections import check_nodes
from memlane.tasks.embedders import check_embedder
from memlane.tasks.lane import Lane
from memlane.tasks.rates import make_rates
from memlane.workers.drains import Process
from memlane.workers.marks import make_marks
from memlane.workers.returns import Returns
from memlane.workers.wakeups import Wakeups

_TAKE_IN = (WorkerClassName.INGEST, WorkerClassName.SWEEP)
"""The classes that take memories in: they know terms and budgets before the first comes."""


class StopFlag:
    """One byte that the main process shares with its children: whether it was asked to stop.

    Celery's warm shutdown waits for running tasks but does not tell them; a drain that goes on for
    its whole slice would hold it up.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """The main process was asked to stop."""
        self._byte[0] = 1

    def __call__(self) -> bool:
        """Whether it was."""
        return self._byte[0] == 1


class Lifecycle:
    """Holds what a pool child works with; made in the main process, filled in each child."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._stop = StopFlag()
        self._process: Process | None = None
        self._sweep: Sweep | None = None

    @property
    def process(self) -> Process:
        """What drains work with, in a child."""
        assert self._process is not None, "only in a pool child"
        return self._process

    @property
    def sweep(self) -> Sweep:
        """The sweep, in a child."""
        assert self._sweep is not None, "only in a pool child"
        return self._sweep

    def connect(self) -> None:
        """Hook into Celery's signals. They hold weak references unless told otherwise."""
        signals.setup_logging.connect(self._log, weak=False)
        signals.worker_init.connect(self._check, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.beat_init.connect(self._ready, weak=False)
        signals.worker_shutting_down.connect(self._stopping, weak=False)
        signals.worker_process_init.connect(self.begin, weak=False)
        signals.worker_process_shutdown.connect(self.end, weak=False)

    def begin(self, **_ignored: object) -> None:
        """A child begins: open its connections, load its model."""
        configure_sentry_after_fork(self._settings)
        marks = make_marks(self._settings.marks_url, self._settings.mark_s)
        wakeups = Wakeups(self._app, marks)
        lane = Lane(self._settings, self._settings.worker_class.value, wakeups)
        lane.open()
        if self._settings.worker_class in _TAKE_IN:
            lane.cluster.begin()
        rates = make_rates(lane.cluster.terms, self._settings.marks_url)
        self._process = Process(lane, marks, _new_holder(), self._stop, Returns(lane.cluster), rates=rates)
        self._sweep = Sweep(lane, wakeups.send, rates=rates)
        if self._embeds:
            _ = lane.provider  # which loads the model

    def end(self, **_: object) -> None:
        """A child ends: close its connections."""
        if self._process is not None:
            self._process.lane.close()
        flush_sentry(self._settings)

    @property
    def _embeds(self) -> bool:
        return self._settings.worker_class is WorkerClassName.INGEST

    def _log(self, **_ignored: object) -> None:
        configure_logging(self._settings)
        configure_sentry(self._settings)

    def _check(self, **_: object) -> None:
        """Before any child begins: end with one clear line if the settings or the embedder cannot work.

        Celery goes on after any other exception in a signal.
        """
        try:
            check_nodes(self._settings)
            if self._embeds:
                check_embedder(self._settings)
        except MemlaneError as error:
            raise SystemExit(f"memlane: {error}") from None

    def _ready(self, **_: object) -> None:
        if self._settings.ready_file is not None:
            self._settings.ready_file.touch()

    def _stopping(self, **_: object) -> None:
        self._stop.set()


def _new_holder() -> str:
    """A name for this process that no other has had."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
