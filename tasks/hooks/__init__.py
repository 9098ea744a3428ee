"""Hooks: what is told of each operation before it, after it and when it fails; plugins come by entry points."""

from memlane.tasks.hooks.found import load_hooks
from memlane.tasks.hooks.hooks import NO_HOOKS, Hooks, Underway
from memlane.tasks.hooks.spec import TRACEPARENT, MemlaneHooks, Operation, hookimpl

__all__ = ["NO_HOOKS", "TRACEPARENT", "Hooks", "MemlaneHooks", "Operation", "Underway", "hookimpl", "load_hooks"]
