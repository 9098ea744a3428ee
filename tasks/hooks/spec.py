"""What hooks are told: which operation, and the moments before it, after it, when it failed, and at the end."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from pluggy import HookimplMarker, HookspecMarker

PROJECT = "memlane"

hookspec = HookspecMarker(PROJECT)
hookimpl = HookimplMarker(PROJECT)
"""Marks a plugin's methods as hooks."""

Fact = str | int | float | bool

TRACEPARENT: ContextVar[str | None] = ContextVar("memlane_traceparent", default=None)
"""W3C's `traceparent` of the span that is under way: it goes along with the messages that the operation causes.

A plugin that traces sets it in `before` and puts it back afterwards; without one nothing goes along.
"""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Operation:
    """One thing that is done. It is equal to itself alone, so that a plugin may keep what it knows of it in a mapping.

    Nothing in it is content: no text, no agent, no key, no id of a memory.
    """

    name: str
    """What is done: one of a few dozen names, the same for all tenants."""
    tenant: str | None = None
    """For whom; None for several, or for nobody in particular. A plugin that shows it tells who its customers are."""
    shard: int | None = None
    """Where; None for several, or for none."""
    items: int = 1
    """Of how many: memories of a remember, texts of an embed, jobs of a drain."""
    attributes: Mapping[str, Fact] = field(default_factory=dict)
    """Harmless facts, like the model that is asked."""
    continues: str | None = None
    """The `traceparent` of who waits for it or asked for just this; as it came, so it may be anything."""
    follows: str | None = None
    """The `traceparent` of who caused it among others; as it came, so it may be anything."""


class MemlaneHooks:
    """The hooks that a plugin may have; each takes those of its arguments that it names.

    They are called where the operation runs: on the gateway's event loop too, so they must not wait for anything.
    """

    @hookspec
    def before(self, operation: Operation) -> None:
        """An operation begins. A plugin that raises here does not hear of this operation again."""

    @hookspec
    def after(self, operation: Operation, seconds: float) -> None:
        """It was done, in so many seconds."""

    @hookspec
    def on_error(self, operation: Operation, seconds: float, error: BaseException) -> None:
        """It ended by an error after so many seconds, be it that its process has to end; instead of `after`.

        The error's message may quote content, its type does not.
        """

    @hookspec
    def close(self) -> None:
        """The process ends: send what is left. It is waited for briefly."""
