"""The API as values, read from its OpenAPI document: what the page at /docs and the reference are made of."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memlane.gateway.problems import PROBLEM_JSON

_REF = "#/components/schemas/"


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a body or an answer; `where` is path or query for a parameter."""

    name: str
    kind: str
    meaning: str
    required: bool
    default: str = ""
    where: str = ""

    @property
    def said(self) -> str:
        """Its meaning, and whether it has to be there."""
        parts = (self.meaning.rstrip("."), "required" if self.required else "")
        return "".join(f"{part[0].upper()}{part[1:]}. " for part in parts if part).rstrip()


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which a request is answered."""

    status: int
    meaning: str
    kind: str
    refusal: bool
    """Whether it is an error as problem+json."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One request: what it takes, what it does, how it is answered."""

    method: str
    path: str
    group: str
    meaning: str
    needs_key: bool
    parameters: Sequence[Field]
    body: str
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Type:
    """An object with its fields, or a word of a few; `first` are the first of fields that exclude each other."""

    name: str
    meaning: str
    fields: Sequence[Field]
    words: Sequence[str]
    first: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """The whole API."""

    title: str
    version: str
    endpoints: Sequence[Endpoint]
    types: Sequence[Type]


def read_description(document: Mapping[str, Any]) -> Description:
    """The values that an OpenAPI document holds."""
    endpoints = [
        _endpoint(method, path, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]
    types = [_type(name, schema) for name, schema in document["components"]["schemas"].items()]
    return Description(document["info"]["title"], document["info"]["version"], endpoints, types)


def _endpoint(method: str, path: str, described: Mapping[str, Any]) -> Endpoint:
    body = described.get("requestBody", {}).get("content", {})
    answers = [
        Answer(
            int(status),
            answer["description"],
            _content(answer.get("content", {})),
            PROBLEM_JSON in answer.get("content", {}),
        )
        for status, answer in sorted(described["responses"].items())
    ]
    return Endpoint(
        method=method.upper(),
        path=path,
        group=described["tags"][0],
        meaning=described.get("description", ""),
        needs_key="security" in described,
        parameters=[_parameter(one) for one in described.get("parameters", [])],
        body=_content(body),
        answers=answers,
    )


def _parameter(one: Mapping[str, Any]) -> Field:
    schema = one["schema"]
    meaning = one.get("description", "")
    return Field(one["name"], kind_of(schema), meaning, one.get("required", False), _default(schema), one["in"])


def _type(name: str, schema: Mapping[str, Any]) -> Type:
    needed = schema.get("required", [])
    fields = [
        Field(field, kind_of(inner), inner.get("description", ""), field in needed, _default(inner))
        for field, inner in schema.get("properties", {}).items()
    ]
    first = schema.get("oneOf", [{}])[0].get("required", [])
    return Type(name, schema.get("description", ""), fields, schema.get("enum", []), first)


def _content(content: Mapping[str, Any]) -> str:
    """What a body or an answer is; its media type where that is no JSON of ours."""
    for media, inside in content.items():
        kind = kind_of(inside.get("schema", {}))
        return kind if media.endswith("json") else media
    return ""


def kind_of(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, such as `array of Receipt`, or `integer, 1 to 500`; null is left out."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = [kind_of(one) for one in schema[several] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(str(word) for word in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {kind_of(schema.get('items', {}))}{_range(schema, 'Items')}"
    if isinstance(inside := schema.get("additionalProperties"), Mapping):
        return f"object of {kind_of(inside)}"
    kind = str(schema.get("format") or schema.get("type") or "any")
    return f"{kind}{_range(schema, 'Length')}{_range(schema, 'imum')}"


_UNITS = {"Items": "", "Length": " characters", "imum": ""}


def _range(schema: Mapping[str, Any], what: str) -> str:
    """The limits of a number, of a text's length or of a list's."""
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if low is None and high is None:
        return ""
    if high is None:
        return f", {low:g} or more{_UNITS[what]}"
    return (f", at most {high:g}" if low is None else f", {low:g} to {high:g}") + _UNITS[what]


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return "" if value in (None, "", [], {}) else str(value).lower() if isinstance(value, bool) else str(value)


def curl(endpoint: Endpoint, types: Sequence[Type]) -> str:
    """A request as a command line, with what has to be in it."""
    path = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), endpoint.path)
    asked = "&".join(
        f"{one.name}={one.name.upper()}" for one in endpoint.parameters if one.required and one.where == "query"
    )
    parts = ["curl -s", f'"$MEMLANE_URL{path}{"?" if asked else ""}{asked}"']
    if endpoint.method not in ("GET", "POST") or (endpoint.method == "POST" and not endpoint.body):
        parts.insert(1, f"-X {endpoint.method}")
    if endpoint.needs_key:
        parts.append('-H "Authorization: Bearer $MEMLANE_API_KEY"')
    if endpoint.body:
        parts.append(f"-d '{json.dumps(_sample(endpoint.body, {one.name: one for one in types}))}'")
    return " ".join(parts)


def _sample(kind: str, types: Mapping[str, Type]) -> Any:
    """A value of a kind: the first, where there are several, and in it only what has to be there."""
    first = kind.split(" or ", maxsplit=1)[0]
    if first.startswith("array of "):
        return [_sample(first.removeprefix("array of ").split(",")[0], types)]
    if first in types:
        one = types[first]
        return {
            field.name: _sample(field.kind, types) for field in one.fields if field.required or field.name in one.first
        }
    return 1 if first.startswith(("integer", "number")) else "..."
