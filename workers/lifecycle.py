"""The life of a worker process: what is made after the fork, and how children learn that they have to stop."""

import atexit
import mmap
from functools import partial

from celery import Celery, signals

from memlane.beat.sweep import Sweep
from memlane.config.logging import configure_logging
from memlane.config.sentry import configure_sentry, configure_sentry_after_fork, flush_sentry
from memlane.config.settings import Settings, WorkerClassName
from memlane.errors import MemlaneError
from memlane.storage.connections import check_nodes
from memlane.tasks.embedders import check_embedder
from memlane.tasks.lane import Lane
from memlane.tasks.pulse import Pulse, new_name
from memlane.tasks.rates import make_rates
from memlane.workers.broker import broker_status
from memlane.workers.drains import Process
from memlane.workers.good_bye import say_gone
from memlane.workers.marks import make_marks
from memlane.workers.returns import Returns
from memlane.workers.throttle import Throttle, recycle
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
        self._pulse: Pulse | None = None

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

    def heard(self, beat: str | None, *, gone: bool = False) -> None:
        """A message of a beat has come, maybe its last; None: of one that names itself not."""
        if beat is not None and self._pulse is not None:
            (self._pulse.gone if gone else self._pulse.heard)(beat)

    def connect(self) -> None:
        """Hook into Celery's signals. They hold weak references unless told otherwise."""
        signals.setup_logging.connect(self._log, weak=False)
        signals.worker_init.connect(self._check, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.beat_init.connect(self._beats, weak=False)
        signals.worker_shutting_down.connect(self._stopping, weak=False)
        signals.worker_process_init.connect(self.begin, weak=False)
        signals.worker_process_shutdown.connect(self.end, weak=False)

    def begin(self, **_ignored: object) -> None:
        """A child begins: open its connections, load its model."""
        configure_sentry_after_fork(self._settings)
        marks = make_marks(self._settings.marks_url, self._settings.mark_s)
        wakeups = Wakeups(self._app, marks)
        lane = Lane(self._settings, self._settings.worker_class.value, wakeups)
        lane.ask_broker = lambda: broker_status(self._app, self._settings.broker_url.get_secret_value())
        lane.open()
        if self._settings.worker_class in _TAKE_IN:
            lane.cluster.begin()
        rates = make_rates(lane.cluster.terms, self._settings.marks_url)
        if self._embeds:
            _ = lane.provider  # which loads the model
        throttle = Throttle(self._settings, lane.drop_caches)
        recycle(throttle, self._settings)
        self._process = Process(
            lane, marks, new_name(), self._stop, Returns(lane.cluster), rates=rates, throttle=throttle
        )
        self._sweep = Sweep(lane, wakeups.send, rates=rates)
        self._pulse = Pulse(
            lane, self._process.holder, self._settings.worker_class.value, partial(_look, lane, throttle)
        )
        self._pulse.start()

    def end(self, **_: object) -> None:
        """A child ends: say good-bye, and close its connections."""
        if self._pulse is not None:
            self._pulse.stop()
        if self._process is not None:
            self._process.lane.close()
        flush_sentry(self._settings)

    @property
    def _embeds(self) -> bool:
        return self._settings.worker_class is WorkerClassName.INGEST

    @property
    def _warms(self) -> bool:
        """Whether it embeds what is asked again and again; its model is loaded once something is missing."""
        return self._settings.worker_class is WorkerClassName.MAINTENANCE and self._settings.warm_cache

    def _log(self, **_ignored: object) -> None:
        configure_logging(self._settings)
        configure_sentry(self._settings)

    def _check(self, **_: object) -> None:
        """Before any child begins: end with one clear line if the settings or the embedder cannot work.

        Celery goes on after any other exception in a signal.
        """
        try:
            check_nodes(self._settings)
            if self._embeds or self._warms:
                check_embedder(self._settings)
        except MemlaneError as error:
            raise SystemExit(f"memlane: {error}") from None

    def _ready(self, **_: object) -> None:
        if self._settings.ready_file is not None:
            self._settings.ready_file.touch()

    def _beats(self, **_: object) -> None:
        """A beat begins. Celery tells nobody when it ends in good order; the interpreter does, when all is over."""
        self._ready()
        atexit.register(say_gone, self._app)

    def _stopping(self, **_: object) -> None:
        self._stop.set()


def _look(lane: Lane, throttle: Throttle) -> None:
    """Bring up to date what a pulse tells."""
    level = throttle.look()
    lane.measures.memory(throttle.use.percent, level.value)
