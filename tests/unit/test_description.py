"""The API's description: whole, with a meaning for what callers send, and harmless as a page."""

import json
import re
from typing import Any

import pytest

from memlane.config.settings import Settings
from memlane.gateway.app import create_app
from memlane.gateway.description import Answer, Description, Endpoint, Field, Type, kind_of, read_description
from memlane.gateway.docstrings import Docstring
from memlane.gateway.page import POLICY, docs_page

DOCUMENT = create_app(Settings.model_construct()).openapi()
API = read_description(DOCUMENT)


def test_the_document_refers_to_nothing_that_is_missing() -> None:
    text = json.dumps(DOCUMENT)
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(DOCUMENT["components"]["schemas"])
    assert "$defs" not in text
    assert "HTTPValidationError" not in text
    assert "Attributes:" not in text


def test_what_callers_send_has_a_meaning() -> None:
    nameless = [(one.path, field.name) for one in API.endpoints for field in one.parameters if not field.meaning]
    types = {one.name: one for one in API.types}
    for endpoint in API.endpoints:
        for name in endpoint.body.split(" or ") if endpoint.body else ():
            nameless += [(name, field.name) for field in types[name].fields if not field.meaning]
    assert nameless == []


def test_each_endpoint_says_how_it_is_answered() -> None:
    for endpoint in API.endpoints:
        assert endpoint.meaning, endpoint.path
        done = [answer for answer in endpoint.answers if answer.status < 300]
        assert [answer.kind for answer in done if answer.kind in ("", "object", "any")] == [], endpoint.path
        refused = {answer.status for answer in endpoint.answers if answer.refusal}
        assert refused >= ({401, 403, 422, 503} if endpoint.needs_key else set()), endpoint.path
        assert bool(endpoint.body) == (400 in refused), endpoint.path


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "minLength": 1, "maxLength": 128}, "string, 1 to 128 characters"),
        ({"type": "integer", "minimum": 60}, "integer, 60 or more"),
        ({"type": "array", "maxItems": 3, "items": {"$ref": "#/components/schemas/Hit"}}, "array of Hit, at most 3"),
        ({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}, "uuid"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "string or integer"),
        ({"type": "string", "enum": ["a", "b"]}, "a or b"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({}, "any"),
    ],
)
def test_schemas_in_words(schema: dict[str, Any], kind: str) -> None:
    assert kind_of(schema) == kind


def test_nothing_that_is_described_becomes_markup() -> None:
    bad = "<script>alert(1)</script>"
    field = Field(bad, bad, bad, required=True, default=bad, where=bad)
    endpoint = Endpoint(bad, bad, bad, bad, True, [field], bad, [Answer(200, bad, bad, refusal=False)])
    page = docs_page(Description(bad, bad, [endpoint], [Type(f"{bad}s", bad, [field], [bad])]))
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 10


def test_the_pages_style_is_the_one_that_its_policy_allows() -> None:
    from base64 import b64encode
    from hashlib import sha256

    (style,) = re.findall(r"<style>(.*?)</style>", docs_page(API), re.DOTALL)
    assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in POLICY


def test_docstrings_are_read_part_by_part() -> None:
    read = Docstring.of(
        """What it is.

        More of it: with a colon.

        Attributes:
            one: the first,
                in two lines.
            two, three: the others.

        Raises:
            NotFound: it is not there.
        """
    )
    assert read.text == "What it is.\n\nMore of it: with a colon."
    assert read.attributes == {"one": "the first, in two lines.", "two": "the others.", "three": "the others."}
    assert read.raises == {"NotFound": "it is not there."}
    assert read.args == {}
    assert Docstring.of(None) == Docstring("")
