"""Finding plugins: by entry points, ours like everybody's; what is broken or slow costs a line in the log."""

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from threading import Thread
from time import monotonic

import structlog

from memlane.config.settings import Settings
from memlane.errors import MemlaneError
from memlane.tasks.hooks.hooks import Hooks
from memlane.tasks.hooks.prometheus import Prometheus
from memlane.tasks.measures import Measures

log = structlog.get_logger(__name__)

GROUP = "memlane.hooks"
"""The group of entry points. Each names a `Make`."""

Make = Callable[[Settings], object | None]
"""Makes a plugin for a process, or None if the settings do not ask for it."""

_PATIENCE_S = 2.0
"""How long a process that begins waits for all its plugins; who is later joins it when it is ready."""


def load_hooks(settings: Settings, measures: Measures) -> Hooks:
    """The hooks of this process, from what is installed and not switched off; make them after the fork.

    Args:
        settings: this process's.
        measures: takes the figures of operations; it is the lane's, so this one plugin needs no entry point.
    """
    ours = {} if "prometheus" in settings.hooks_off else {"prometheus": Prometheus(measures)}
    hooks = Hooks(ours, measures.hook_failed)
    wanted = [point for point in _found(tuple(sys.path)) if point.name not in settings.hooks_off]
    threads = {
        point.name: Thread(target=_add, args=(hooks, point, settings), name=f"hook {point.name}", daemon=True)
        for point in wanted
    }
    for thread in threads.values():
        thread.start()
    until = monotonic() + _PATIENCE_S
    for name, thread in threads.items():
        thread.join(max(0.0, until - monotonic()))
        if thread.is_alive():
            log.warning("hook.late", hook=name)
    return hooks


@lru_cache(maxsize=1)
def _found(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points on a path; to read what is installed takes tens of milliseconds."""
    return tuple(entry_points(group=GROUP))


def _add(hooks: Hooks, point: EntryPoint, settings: Settings) -> None:
    try:
        make: Make = point.load()
        plugin = make(settings)
        if plugin is not None:
            hooks.add(point.name, plugin)
    except MemlaneError as error:
        log.warning("hook.off", hook=point.name, why=str(error))
    except BaseException:  # it has a thread of its own: there is nobody else to tell
        log.exception("hook.off", hook=point.name)
