"""A worker that reaches Postgres and Redis through TLS alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from memlane import Client
from memlane.config.settings import Settings
from tests.integration.test_tls import port_of, through
from tests.local import WorkerProcess
from tests.tls import Authority, Proxy, tls_before

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(120),
    pytest.mark.parametrize("broker", ["redis"], indirect=True),
]


@pytest.fixture
def proxies(cluster_settings: Settings, authority: Authority) -> Iterator[tuple[Proxy, Proxy]]:
    """TLS before Postgres and before Redis."""
    nodes = port_of(cluster_settings.nodes["node-1"].get_secret_value())
    broker = port_of(cluster_settings.broker_url.get_secret_value())
    context = authority.context("localhost")
    with tls_before(nodes, context) as postgres, tls_before(broker, context) as redis:
        yield postgres, redis


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca.pem")


def encrypted(settings: Settings, proxies: tuple[Proxy, Proxy], authority: Authority) -> Settings:
    url = f"rediss://:test@localhost:{proxies[1].port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority.file}"
    made = through(settings, proxies[0], authority.file)
    return made.model_copy(update={"broker_url": SecretStr(url), "redis_url": SecretStr(url)})


def test_a_worker_over_tls(
    cluster_settings: Settings,
    proxies: tuple[Proxy, Proxy],
    authority: Authority,
    start_worker: Callable[..., WorkerProcess],
    gateway: str,
    keys: tuple[str, str],
) -> None:
    """The gateway wakes in the open, on the same servers; the worker hears of it through TLS."""
    settings = encrypted(cluster_settings, proxies, authority)
    worker = start_worker("ingest", "memory,remember,embed", 1, settings)
    assert len(proxies[1].sessions) >= 1
    with Client(gateway, keys[0]) as client:
        client.remember("ada", "green tea").wait("searchable", timeout=30)
    assert {alpn for _, alpn in proxies[0].sessions} == {"postgresql"}
    assert worker.status == "running"
