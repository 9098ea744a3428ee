"""The page at /docs: the API for people, made on the server. It has no script, and loads nothing from anywhere."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from memlane.gateway.description import Description, Endpoint, Field, Type, curl

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border: 1px solid #8886; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; background: #8882; padding: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-top: 1px solid #8884; }
:root { color-scheme: light dark; }
"""

POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing but the style in the page itself."""

_HEAD = """<p>Requests carry <code>Authorization: Bearer mlk_...</code> unless it is said that they need no key.
The same as <a href="openapi.json">OpenAPI</a>.</p>"""


def docs_page(api: Description) -> str:
    """The page as HTML."""
    groups = dict.fromkeys(endpoint.group for endpoint in api.endpoints)
    parts = [f"<h1>{escape(api.title)} {escape(api.version)}</h1>", _HEAD]
    for group in groups:
        parts.append(f"<h2>{escape(group.capitalize())}</h2>")
        parts += [_endpoint(one, api.types) for one in api.endpoints if one.group == group]
    parts.append("<h2>Types</h2>")
    parts += [_type(one) for one in api.types]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(api.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _endpoint(endpoint: Endpoint, types: Sequence[Type]) -> str:
    parameters = [(_code(one.name), escape(one.where), *_about(one)) for one in endpoint.parameters]
    answers = [(str(one.status), escape(one.meaning), escape(one.kind)) for one in endpoint.answers]
    return _folded(
        f"<code><b>{escape(endpoint.method)}</b> {escape(endpoint.path)}</code> {escape(endpoint.meaning)}",
        "" if endpoint.needs_key else "<p>Needs no key.</p>",
        _table(("parameter", "in", "type", "meaning", "default"), parameters),
        f"<p>Body: {escape(endpoint.body)}</p>" if endpoint.body else "",
        f"<pre>{escape(curl(endpoint, types))}</pre>",
        _table(("status", "meaning", "answer"), answers),
    )


def _type(one: Type) -> str:
    fields = [(_code(field.name), *_about(field)) for field in one.fields]
    return _folded(
        _code(one.name),
        _said(one.meaning),
        f"<p>One of {', '.join(map(_code, one.words))}.</p>" if one.words else "",
        _table(("field", "type", "meaning", "default"), fields),
    )


def _about(field: Field) -> tuple[str, str, str]:
    return escape(field.kind), escape(field.said), _code(field.default)


def _folded(title: str, *parts: str) -> str:
    return "\n".join(["<details>", f"<summary>{title}</summary>", *filter(None, parts), "</details>"])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    head = f"<tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>"
    return "\n".join(["<table>", head, *lines, "</table>"]) if lines else ""


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>" if text else ""
