"""The Python API as a page, made from the docstrings of what agent apps hold."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from textwrap import dedent
from types import ModuleType
from typing import Any

import memlane
from memlane import errors
from memlane.admin import Admin
from memlane.client import AsyncBatch, AsyncClient, AsyncReceipt, Batch, Client, LiveReceipt
from memlane.contract import limits, memory, text
from memlane.gateway.docstrings import Docstring
from memlane.reference.markdown import block, code, page, table
from memlane.testing import InMemoryClient

_NO_TYPES = ("AsyncClient", "Client", "MemlaneError", "__version__")


def python_page() -> str:
    """The page: the clients, their receipts, the types that go in and come out, the errors, the limits."""
    types = [getattr(memlane, name) for name in memlane.__all__ if name not in _NO_TYPES]
    return page(
        "# Python API",
        "Everything here needs only the light client: `from memlane import Client`, and so on.",
        _whole(Client),
        _class(AsyncClient),
        block("python", *(_signature(name, function) for name, function in _functions(AsyncClient))),
        *(_whole(kind) for kind in (LiveReceipt, Batch, AsyncReceipt, AsyncBatch, *types)),
        _checked(),
        _limits(),
        _errors(),
        _class(InMemoryClient, "memlane.testing"),
        _whole(Admin, "memlane.admin"),
    )


def _whole(kind: type, module: str = "") -> str:
    """A class with all that can be called on it."""
    return page(_class(kind, module), *_properties(kind), *_methods(kind))


def _class(kind: type, module: str = "") -> str:
    """A class with how it is made and what it holds."""
    doc = Docstring.of(kind.__doc__)
    below = [code(one.__name__) for one in kind.__bases__ if one.__module__.startswith("memlane.contract")]
    more = f"It has all that {below[0]} has." if below else ""
    where = f"`from {module} import {kind.__name__}`" if module else ""
    arguments = table(("argument", "meaning"), [(code(name), meaning) for name, meaning in doc.args.items()])
    inside = _values(kind) if issubclass(kind, Enum) else _fields(kind, doc)
    return page(f"## {kind.__name__}", doc.text, more, where, _made(kind, doc), arguments, inside)


def _made(kind: type, doc: Docstring) -> str:
    """How one is made, where callers make it."""
    return block("python", f"{kind.__name__}({_arguments(kind.__init__)})") if doc.args else ""  # type: ignore[misc]


def _values(kind: type[Enum]) -> str:
    meanings = {name: meaning for name, _, _, meaning in _assigned(kind)}
    return table(("value", "meaning"), [(code(str(member.value)), meanings.get(member.name, "")) for member in kind])


def _fields(kind: type, doc: Docstring) -> str:
    hidden = {one.name for one in fields(kind) if not one.repr} if is_dataclass(kind) else set()
    rows = [
        (code(name), code(typed), doc.attributes.get(name, meaning), code(default))
        for name, typed, default, meaning in _assigned(kind)
        if typed and name not in hidden
    ]
    return table(("field", "type", "meaning", "default"), rows)


def _public(kind: type) -> Iterator[tuple[str, Any]]:
    """What is ours and public in a class, that of the classes below it first."""
    names: dict[str, None] = {}
    for below in reversed(kind.__mro__):
        if below.__module__.startswith("memlane."):
            names |= {name: None for name in vars(below) if not name.startswith("_")}
    for name in names:
        yield name, inspect.getattr_static(kind, name)


def _functions(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, found in _public(kind):
        function = found.__func__ if isinstance(found, classmethod) else found
        if inspect.isfunction(function):
            yield name, function


def _properties(kind: type) -> Iterator[str]:
    for name, found in _public(kind):
        if isinstance(found, property):
            yield page(f"### {kind.__name__}.{name}", _said(Docstring.of(inspect.getdoc(found))))


def _methods(kind: type) -> Iterator[str]:
    for name, function in _functions(kind):
        said = Docstring.of(inspect.getdoc(getattr(kind, name)))
        yield page(f"### {kind.__name__}.{name}", block("python", _signature(name, function)), _said(said))


def _signature(name: str, function: Callable[..., Any]) -> str:
    how = "await " if inspect.iscoroutinefunction(function) else ""
    return f"{how}{name}({_arguments(function)}) -> {_returns(function)}"


def _said(doc: Docstring) -> str:
    arguments = "\n".join(f"- `{name}`: {meaning}" for name, meaning in doc.args.items())
    raises = "\n".join(f"- `{name}`: {meaning}" for name, meaning in doc.raises.items())
    return page(doc.text, arguments, f"Raises:\n\n{raises}" if raises else "")


def _errors() -> str:
    """The tree of errors, and each with its meaning."""
    drawn = inspect.cleandoc(errors.__doc__ or "").split("\n\n", 1)
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MemlaneError)]
    rows = []
    for kind in kinds:
        doc = Docstring.of(kind.__doc__)
        attributes = [f"{code(name)}: {meaning}" for name, meaning in doc.attributes.items()]
        rows.append((code(kind.__name__), " ".join([doc.text, *attributes]), "yes" if kind.retryable else ""))
    return page(
        "## Errors",
        f"{drawn[0]} They are in `memlane.errors`.",
        block("", *drawn[1].splitlines()),
        table(("error", "meaning", "retryable"), rows),
    )


def _checked() -> str:
    """The types that stand for checked values."""
    named = [(name, meaning) for module in (text, memory) for name, _, _, meaning in _assigned(module) if meaning]
    rows = [(code(name), meaning) for name, meaning in named if not name.startswith("_")]
    return page(
        "## Checked values",
        "They are handed over as plain strings, times and mappings.",
        table(("type", "what it has to be"), rows),
    )


def _limits() -> str:
    values = vars(limits)
    rows = [(code(name), f"{values[name]:,}", meaning) for name, _, _, meaning in _assigned(limits)]
    return page("## Limits", "In `memlane.contract.limits`.", table(("name", "value", "meaning"), rows))


def _assigned(owner: type | ModuleType) -> Iterator[tuple[str, str, str, str]]:
    """What is assigned in a class or module: name, type, default and the docstring below it."""
    tree = ast.parse(dedent(inspect.getsource(owner)))
    body = tree.body if isinstance(owner, ModuleType) else tree.body[0].body  # type: ignore[attr-defined]
    for node, after in zip(body, [*body[1:], None], strict=True):
        meaning = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            meaning = inspect.cleandoc(str(after.value.value))
        if isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target), _plain(node.annotation), _default(node.value), meaning
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "model_config":
            yield ast.unparse(node.targets[0]), "", "", meaning


def _plain(annotation: ast.expr) -> str:
    """A type without what pydantic checks beside it."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        checked = annotation.slice
        return _plain(checked.elts[0] if isinstance(checked, ast.Tuple) else checked)
    return ast.unparse(annotation)


def _default(value: ast.expr | None) -> str:
    """A default as it is written; that of a factory as what it makes."""
    if value is None:
        return ""
    text = ast.unparse(value)
    if text.lower().startswith("field("):
        return "{}" if "default_factory=dict" in text else ""
    return text


def _arguments(function: Callable[..., Any]) -> str:
    arguments = _definition(function).args
    arguments.args = [one for one in arguments.args if one.arg not in ("self", "cls")]
    return re.sub(r"(?<=[\w\])])=", " = ", ast.unparse(arguments))


def _returns(function: Callable[..., Any]) -> str:
    returns = _definition(function).returns
    return re.sub(r"^'(.*)'$", r"\1", ast.unparse(returns)) if returns else "None"


def _definition(function: Callable[..., Any]) -> ast.FunctionDef | ast.AsyncFunctionDef:
    node = ast.parse(dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return node
