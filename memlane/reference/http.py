"""The HTTP API as a page, made from its OpenAPI document."""

import re
from collections.abc import Sequence

from memlane.config.settings import Settings
from memlane.gateway.app import create_app
from memlane.gateway.description import Endpoint, Field, Type, curl, read_description
from memlane.reference.markdown import block, code, page, table

_HEAD = """# HTTP API

Every endpoint with its parameters, body and answers; [HTTP](../howto/http.md) shows how to use them."""

_KEYS = "Requests carry `Authorization: Bearer mlk_...` unless it is said that they need no key."


def http_page() -> str:
    """The page: the endpoints in their groups, then the types."""
    description = read_description(create_app(Settings.model_construct()).openapi())
    types = description.types
    names = [one.name for one in types]
    groups = dict.fromkeys(endpoint.group for endpoint in description.endpoints)
    sections = [
        page(
            f"## {group.capitalize()}", *(_endpoint(one, types) for one in description.endpoints if one.group == group)
        )
        for group in groups
    ]
    return page(
        _HEAD, _KEYS, *sections, _errors(description.endpoints), "## Types", *(_type(one, names) for one in types)
    )


def _endpoint(endpoint: Endpoint, types: Sequence[Type]) -> str:
    names = [one.name for one in types]
    answers = [(str(one.status), one.meaning, _linked(one.kind, names)) for one in endpoint.answers if not one.refusal]
    refusals = ", ".join(str(one.status) for one in endpoint.answers if one.refusal)
    return page(
        f"### {endpoint.method} {endpoint.path}",
        endpoint.meaning,
        "" if endpoint.needs_key else "Needs no key.",
        table(
            ("parameter", "in", "type", "meaning", "default"),
            [(code(one.name), one.where, *_about(one, names)) for one in endpoint.parameters],
        ),
        f"Body: {_linked(endpoint.body, names)}." if endpoint.body else "",
        block("sh", curl(endpoint, types)),
        table(("status", "meaning", "answer"), answers),
        f"[Errors](#errors): {refusals}." if refusals else "",
    )


def _errors(endpoints: Sequence[Endpoint]) -> str:
    """The errors of all endpoints, each once."""
    refusals = {(one.status, one.meaning) for endpoint in endpoints for one in endpoint.answers if one.refusal}
    rows = [(str(status), *meaning.partition(": ")[::2]) for status, meaning in sorted(refusals)]
    said = "An error is `application/problem+json` (RFC 9457), a [Problem](#problem); its `code` is what to branch on."
    return page("## Errors", said, table(("status", "code", "meaning"), [(a, code(b), c) for a, b, c in rows]))


def _type(one: Type, names: Sequence[str]) -> str:
    fields = [(code(field.name), *_about(field, names)) for field in one.fields]
    words = ", ".join(map(code, one.words))
    return page(
        f"### {one.name}",
        one.meaning,
        f"One of {words}." if words else "",
        table(("field", "type", "meaning", "default"), fields),
    )


def _about(field: Field, names: Sequence[str]) -> tuple[str, str, str]:
    return _linked(field.kind, names), field.said, code(field.default)


def _linked(kind: str, names: Sequence[str]) -> str:
    """A kind with links to the types that it names."""
    return re.sub(r"\b[A-Z]\w+", lambda found: _link(found[0]) if found[0] in names else found[0], kind)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"
