"""The doctor, as a user runs it: with a gateway, without one, and with nothing at all."""

import json
from typing import Any

import pytest

from memlane.config.settings import Settings
from memlane.embedded.ports import free_port
from memlane.storage import processes
from memlane.storage.processes import Report
from memlane.tasks.lane import Lane
from tests.commands import Run, document
from tests.contract.conftest import serving
from tests.support import sql

Environment = dict[str, str]


@pytest.fixture
def here(settings: Settings) -> Environment:
    """What a machine of the deployment is told."""
    nodes = {name: uri.get_secret_value() for name, uri in settings.nodes.items()}
    return {
        "MEMLANE_NODES": json.dumps(nodes),
        "MEMLANE_BROKER_URL": settings.broker_url.get_secret_value(),
        "MEMLANE_EMBEDDER": "hash",
        "MEMLANE_PROFILE": "test",
    }


@pytest.fixture
def crew(lane: Lane) -> None:
    """Somebody of each class that is needed lives, for long."""
    for class_ in ("ingest", "sweep", "beat", "gateway"):
        processes.begin(lane.cluster.control, f"host:1:{class_}", class_, Report({}, {}))


def parts(found: Any) -> dict[str, Any]:
    return {part["name"]: part for part in found["health"]["components"]}


@pytest.mark.usefixtures("crew")
def test_with_a_gateway(run: Run, settings: Settings, admin_key: str) -> None:
    with serving(settings) as url:
        session = {"MEMLANE_URL": url, "MEMLANE_API_KEY": admin_key}
        found = document(run("doctor", "--json", code=None, **session))
        assert found["gateway"] == url
        assert parts(found)["database"]["score"] == 100
        said = run("doctor", code=None, **session).stdout
        assert url in said
        assert "database" in said


@pytest.mark.usefixtures("crew")
def test_without_a_gateway_it_looks_itself(run: Run, settings: Settings, here: Environment) -> None:
    session = {"MEMLANE_URL": f"http://127.0.0.1:{free_port()}", "MEMLANE_API_KEY": "mlk_a_b", **here}
    found = document(run("doctor", "--json", code=2, **session))
    assert "gateway" not in found
    assert "does not answer" in found["why"]
    assert "python -m memlane.gateway" in found["next_steps"][0]
    assert (parts(found)["database"]["score"], parts(found)["processes"]["score"]) == (100, 100)
    with sql(settings) as connection:
        connection.execute("UPDATE control.processes SET seen_at = now() - interval '1 minute' WHERE class = 'ingest'")
    said = run("doctor", code=2, **session).stdout
    assert said.index("does not answer") < said.index("ingest processes: none lives")
    assert "start the ingest worker again" in said


def test_a_node_that_is_down_is_named(run: Run, here: Environment) -> None:
    nodes = {**json.loads(here["MEMLANE_NODES"]), "node-2": f"postgresql://x:y@127.0.0.1:{free_port()}/z"}
    found = document(run("doctor", "--json", code=2, **{**here, "MEMLANE_NODES": json.dumps(nodes)}))
    (down,) = parts(found)["database"]["findings"]
    assert (down["subject"], down["severity"]) == ("node node-2", "critical")
    assert found["health"]["score"] == 0


def test_with_nothing_it_says_what_to_do(run: Run) -> None:
    said = run("doctor", code=2).stdout
    assert "memlane up" in said
