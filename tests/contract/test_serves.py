"""Which endpoints a gateway has: a public one nothing of the admin's, an internal one nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from memlane.admin import Admin
from memlane.config.settings import Settings
from memlane.contract.status import NodeStatus
from memlane.gateway.app import create_app
from memlane.storage.nodes import Node
from memlane.storage.status import node_status
from tests.contract.conftest import serving
from tests.contract.test_gateway import ONE, problem

PROBES = {"/healthz", "/readyz", "/metrics"}


@contextmanager
def asking(settings: Settings, serves: str, key: str) -> Iterator[httpx.Client]:
    """A client of a gateway that serves this."""
    limited = Settings(**{**dict(settings), "serves": serves})
    with (
        serving(limited) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as client,
    ):
        yield client


def described(client: httpx.Client) -> set[str]:
    return set(client.get("/openapi.json").json()["paths"])


def test_a_public_gateway_has_nothing_of_the_admins(settings: Settings, tenant_key: str, admin_key: str) -> None:
    with asking(settings, "tenants", admin_key) as client:
        assert not any(path.startswith(("/v1/admin", "/v1/health")) for path in described(client))
        for path in ("/v1/health", "/v1/admin", "/v1/admin/", "/v1/admin/keys", "/v1/admin/status", "/v1/admin/shards"):
            problem(client.get(path), 404, "not_found")
        problem(client.post("/v1/admin/keys", json={}), 404, "not_found")
        problem(client.get("/v1/ledger"), 403, "forbidden")
        client.headers["Authorization"] = f"Bearer {tenant_key}"
        assert client.post("/v1/memories", json=ONE).status_code == 202
        assert client.get("/v1/ledger").json()["events"]["accepted"] == 1
        assert all(client.get(path).status_code == 200 for path in PROBES)


def test_an_internal_gateway_has_nothing_else(settings: Settings, tenant_key: str, admin_key: str) -> None:
    with asking(settings, "admin", tenant_key) as client:
        paths = described(client)
        assert {path for path in paths if not path.startswith("/v1/admin/")} == {*PROBES, "/v1/health"}
        for path in ("/v1/memories?agent=ada", "/v1/ledger", "/v1/receipts/ada/x"):
            problem(client.get(path), 404, "not_found")
        problem(client.post("/v1/memories", json=ONE), 404, "not_found")
        problem(client.get("/v1/admin/keys"), 403, "forbidden")
        assert all(client.get(path).status_code == 200 for path in PROBES)
        admin = Admin(str(client.base_url), admin_key)
        assert [key.label for key in admin.keys("acme")] == [""]
        assert admin.ledger().balanced
        assert admin.status().broker.up
        admin.close()


def test_one_gateway_may_have_both(settings: Settings) -> None:
    paths = set(create_app(settings).openapi()["paths"])
    assert {"/v1/memories", "/v1/admin/keys", "/healthz"} <= paths


def test_probes_name_no_tenant_and_no_memory(gateway: str, http: httpx.Client) -> None:
    """They need no key, so they must not tell what a key is for."""
    http.post("/v1/memories", json={"agent": "agent-of-acme", "content": "kanarienvogel"})
    http.get("/v1/memories?agent=agent-of-acme")
    for path in PROBES:
        text = httpx.get(f"{gateway}{path}").text
        for secret in ("acme", "kanarienvogel", "mlk_", "postgresql:", "127.0.0.1"):
            assert secret not in text, path


def test_a_flood_on_readyz_does_not_reach_the_nodes(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no key: each call on every node would take the tenants' places."""
    looked: list[str] = []

    def look(node: Node) -> NodeStatus:
        looked.append(node.name)
        return node_status(node)

    monkeypatch.setattr("memlane.gateway.overview.status.node_status", look)
    with httpx.Client(base_url=gateway) as client, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.get("/readyz").json()["ready"], range(200)))
    assert all(answers)
    assert 2 <= len(looked) < 50
