"""Each endpoint of a real gateway against its description: right and wrong requests, made up by Schemathesis.

Whatever is asked, the answer is none of a server's failure, and has the status, the type and the shape that the
description names. MEMLANE_TEST_EXAMPLES says how many requests of each sort are tried.
"""

import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from memlane.config.settings import Settings
from memlane.gateway.app import create_app
from tests.contract.conftest import Target
from tests.support import eventually

pytestmark = [
    # Hypothesis sees that threads of the gateway, in the same process, use random numbers.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
    pytest.mark.timeout(600),
]

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = int(os.environ.get("MEMLANE_TEST_EXAMPLES", "25"))

SCHEMA = schemathesis.openapi.from_dict(
    create_app(Settings.model_construct()).openapi(),
    config=SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}}),
)
OPERATIONS = {made.ok().label: made.ok() for made in SCHEMA.get_all_operations() if isinstance(made, Ok)}
ANY = "DELETE /v1/admin/keys/{prefix}"
"""Any text may be what it names."""

WAYS = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode.is_positive or (label != ANY and (operation.body or operation.query or operation.path_parameters))
]
"""Each operation with requests that are right, and, where anything can be wrong with one, with wrong ones."""


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One connection for all requests."""
    with requests.Session() as made:
        yield made


@pytest.fixture
def known(target: Target) -> dict[str, str]:
    """The path parameters of a memory that is there."""
    agent = f"agent-{uuid4()}"
    with target.http() as http:
        made = http.post("/v1/memories", json={"agent": agent, "content": "tea"}).json()
        eventually(lambda: http.get(f"/v1/memories/{agent}/{made['id']}").status_code == 200, 60)
    return {"agent": agent, "id": made["id"]}


def test_no_operation_is_left_out() -> None:
    assert len(OPERATIONS) == sum(map(len, SCHEMA.raw_schema["paths"].values()))


@pytest.mark.parametrize(("label", "mode"), WAYS)
def test_it_answers_as_it_says(
    target: Target, known: dict[str, str], session: requests.Session, label: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[label]
    key = target.admin_key if operation.path.startswith(("/v1/admin", "/v1/health")) else target.tenant_key
    answered: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), there=st.booleans())
    def asks(case: Any, there: bool) -> None:
        if there:
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        response = case.call_and_validate(
            base_url=target.url,
            session=session,
            headers={"Authorization": f"Bearer {key}"},
            checks=CHECKS,
            timeout=60,
        )
        answered.add(response.status_code)

    asks()
    assert answered - {401, 403, 405}, answered
