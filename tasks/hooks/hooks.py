"""The hooks of a process: each is called on its own, and none can harm the operation or another hook."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock, Thread
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any

import structlog
from pluggy import HookCaller, PluginManager

from memlane.tasks.hooks.spec import PROJECT, MemlaneHooks, Operation

log = structlog.get_logger(__name__)

_FAREWELL_S = 2.0
"""How long a process that ends waits for all plugins together to send what is left."""

_Call = Callable[..., object]


@dataclass(frozen=True, slots=True)
class _Plugin:
    """A plugin's hooks, ready to be called; None where it has none."""

    name: str
    priority: float
    before: _Call | None
    after: _Call | None
    on_error: _Call | None
    close: _Call | None


class Underway:
    """An operation that goes on; whoever handles its error tells here that it failed."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        """It failed, although nothing is raised: its hooks have to hear of the error."""


def _uncounted(_hook: str) -> None:
    """Nobody counts."""


class Hooks:
    """The plugins of a process, by ascending priority.

    Args:
        plugins: objects with hooks, by name. An attribute `priority` says where each stands, 0 without one:
            `before` is called from the lowest to the highest, `after` and `on_error` the other way round.
        count: told the name of a hook each time that it raises.
    """

    def __init__(self, plugins: Mapping[str, object] | None = None, count: Callable[[str], None] = _uncounted) -> None:
        self._count = count
        self.failures: Counter[str] = Counter()
        """How often each hook has raised, by plugin and hook."""
        self._manager = PluginManager(PROJECT)
        self._manager.add_hookspecs(MemlaneHooks)
        self._plugins: tuple[_Plugin, ...] = ()
        self._broken: dict[str, int] = {}
        self._closed = False
        self._lock = Lock()
        for name, plugin in (plugins or {}).items():
            self.add(name, plugin)

    def add(self, name: str, plugin: object) -> None:
        """Call a plugin from the next operation on; from any thread.

        Raises:
            ValueError: its name is taken.
            PluginValidationError: its hooks are not those that there are.
        """
        with self._lock:
            self._manager.register(plugin, name)
            made = _made(self._manager, name, plugin)
            if not self._closed:
                self._plugins = tuple(sorted((*self._plugins, made), key=lambda one: one.priority))
                return
        self._farewell(made)

    @property
    def names(self) -> list[str]:
        """The plugins, in the order of their `before`."""
        return [plugin.name for plugin in self._plugins]

    def around(self, operation: Operation) -> AbstractContextManager[Underway]:
        """Call the hooks around what is done in this context. Whatever it raises passes through."""
        plugins = self._plugins
        return _Around(self, plugins, operation) if plugins else _UNHEARD

    def call(self, plugin: str, moment: str, hook: _Call, *told: object) -> bool:
        """Call one hook; whether it did not raise. It is logged when it begins to fail and when it works again."""
        name = f"{plugin}.{moment}"
        try:
            hook(*told)
        except Exception:  # whatever it is, it is the plugin's, not the operation's
            if self._begins_to_fail(name):
                log.exception("hook.failed", hook=name)
            else:
                log.debug("hook.failed_again", hook=name)
            return False
        if name in self._broken:
            log.info("hook.works_again", hook=name, failures=self._broken.pop(name, 0))
        return True

    def _begins_to_fail(self, name: str) -> bool:
        """Count a failure; whether it is the first since the hook worked."""
        self._count(name)
        with self._lock:
            self.failures[name] += 1
            self._broken[name] = self._broken.get(name, 0) + 1
            return self._broken[name] == 1

    def close(self) -> None:
        """Have the plugins send what is left, side by side; whoever takes too long is left behind."""
        with self._lock:
            plugins, self._plugins, self._closed = self._plugins, (), True
        threads = {plugin.name: Thread(target=self._farewell, args=(plugin,), daemon=True) for plugin in plugins}
        for thread in threads.values():
            thread.start()
        until = monotonic() + _FAREWELL_S
        for name, thread in threads.items():
            thread.join(max(0.0, until - monotonic()))
            if thread.is_alive():
                log.warning("hook.left_behind", hook=f"{name}.close")

    def _farewell(self, plugin: _Plugin) -> None:
        if plugin.close is not None:
            self.call(plugin.name, "close", plugin.close)


NO_HOOKS = Hooks()
"""Nobody listens."""

_UNHEARD = nullcontext(Underway())
"""What an operation costs when nobody listens."""


class _Around(Underway):
    """The brackets around one operation. A plugin whose `before` raised is left out of the rest."""

    __slots__ = ("_begun", "_entered", "_error", "_hooks", "_operation", "_plugins")

    def __init__(self, hooks: Hooks, plugins: tuple[_Plugin, ...], operation: Operation) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._operation = operation
        self._entered: list[_Plugin] = []
        self._error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        self._error = error

    def __enter__(self) -> Underway:
        self._begun = perf_counter()
        try:
            for plugin in self._plugins:
                hook = plugin.before
                if hook is None or self._hooks.call(plugin.name, "before", hook, self._operation):
                    self._entered.append(plugin)
        except BaseException as error:  # the process has to end: whoever has begun is told so
            self._end(error)
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end(self._error if error is None else error)

    def _end(self, error: BaseException | None) -> None:
        seconds = perf_counter() - self._begun
        for plugin in reversed(self._entered):
            if error is None and plugin.after is not None:
                self._hooks.call(plugin.name, "after", plugin.after, self._operation, seconds)
            elif error is not None and plugin.on_error is not None:
                self._hooks.call(plugin.name, "on_error", plugin.on_error, self._operation, seconds, error)


def _made(manager: PluginManager, name: str, plugin: object) -> _Plugin:
    """A plugin's hooks, as pluggy has found and checked them."""
    hooks = {moment: _found(getattr(manager.hook, moment), plugin) for moment in _MOMENTS}
    return _Plugin(name, getattr(plugin, "priority", 0), **hooks)


_MOMENTS = ("before", "after", "on_error", "close")


def _found(caller: HookCaller, plugin: object) -> _Call | None:
    """A plugin's hook of one kind, to be called with all that the specification names, in its order."""
    assert caller.spec is not None
    every = caller.spec.argnames
    for impl in caller.get_hookimpls():
        if impl.plugin is plugin:
            if impl.hookwrapper or impl.wrapper:
                raise TypeError(f"{caller.name}: a hook of memlane is a plain function, no wrapper")
            return impl.function if impl.argnames == every else _picking(impl.function, every, impl.argnames)
    return None


def _picking(function: _Call, every: tuple[str, ...], named: tuple[str, ...]) -> _Call:
    """A function that takes all and passes on what is named."""
    places = [every.index(name) for name in named]

    def call(*told: Any) -> object:
        return function(*(told[place] for place in places))

    return call
