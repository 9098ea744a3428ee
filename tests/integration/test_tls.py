"""TLS to Postgres and Redis by address alone; a certificate that does not fit is refused, and said so."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from pydantic import SecretStr

from memlane.config.logging import configure_logging
from memlane.config.settings import Settings, load_settings
from memlane.contract import RecallRequest
from memlane.embedded.redis import Redis
from memlane.errors import Misconfigured, NodeDown
from memlane.storage.jobs import Kind
from memlane.storage.migrator import migrate
from memlane.storage.nodes import Node
from memlane.tasks.lane import Lane
from memlane.workers.app import make_app
from memlane.workers.broker import broker_status
from memlane.workers.marks import NoMarks, RedisMarks
from memlane.workers.wakeups import Wakeups
from tests.support import item, recalled, remembered
from tests.tls import Authority, Proxy, tls_before

MakeLane = Callable[[Settings], Lane]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca.pem")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another authority, which nobody trusts."""
    return Authority(tmp_path / "stranger.pem")


@pytest.fixture
def postgres_proxy(settings: Settings, authority: Authority) -> Iterator[Proxy]:
    """TLS before the tests' Postgres."""
    with tls_before(port_of(settings.nodes["node-1"].get_secret_value()), authority.context("localhost")) as made:
        yield made


@pytest.fixture
def redis_proxy(redis_server: Redis, authority: Authority) -> Iterator[Proxy]:
    """TLS before the tests' Redis."""
    with tls_before(redis_server.port, authority.context("localhost")) as made:
        yield made


def port_of(uri: str) -> int:
    return urlsplit(uri).port or 0


def through(settings: Settings, proxy: Proxy, root: Path, mode: str = "verify-full") -> Settings:
    """The settings with all nodes behind a proxy."""

    def uri(plain: str) -> SecretStr:
        query = f"sslmode={mode}&sslrootcert={root}&sslnegotiation=direct"
        split = urlsplit(plain)
        netloc = f"{split.username}:{split.password}@localhost:{proxy.port}"
        return SecretStr(split._replace(netloc=netloc, query=query).geturl())

    return settings.model_copy(update={"nodes": {n: uri(u.get_secret_value()) for n, u in settings.nodes.items()}})


def rediss(server: Redis, proxy: Proxy, root: Path | None, host: str = "localhost") -> str:
    query = f"?ssl_cert_reqs=required&ssl_ca_certs={root}" if root else ""
    return f"rediss://:{server.password}@{host}:{proxy.port}/0{query}"


def test_a_cluster_over_tls(
    settings: Settings, postgres_proxy: Proxy, authority: Authority, make_lane: MakeLane
) -> None:
    encrypted = through(settings, postgres_proxy, authority.file)
    migrate(encrypted)
    lane = make_lane(encrypted)
    remembered(lane, item("green tea"))
    assert recalled(lane, "acme", RecallRequest(agent="ada", query="tea")).hits
    assert len(postgres_proxy.sessions) >= 2
    assert {alpn for _, alpn in postgres_proxy.sessions} == {"postgresql"}
    assert all(version in ("TLSv1.2", "TLSv1.3") for version, _ in postgres_proxy.sessions)


def reason(settings: Settings) -> str:
    """What a node says that cannot be reached, first and when it is asked again at once; the same from migrate."""
    node = Node("node-1", settings.nodes["node-1"].get_secret_value(), settings, "test", 1)
    node.open()
    said = []
    for _ in range(2):
        with pytest.raises(NodeDown) as caught:
            node.run(b"SELECT 1")
        said.append(str(caught.value))
    node.close()
    with pytest.raises(NodeDown) as caught:
        migrate(settings)
    assert said == [str(caught.value)] * 2
    return said[0]


def test_certificates_of_postgres_that_do_not_fit(
    settings: Settings, postgres_proxy: Proxy, authority: Authority, stranger: Authority
) -> None:
    behind = port_of(settings.nodes["node-1"].get_secret_value())
    untrusted = through(settings, postgres_proxy, stranger.file)
    assert reason(untrusted) == (
        "node node-1 does not answer: its certificate is not from an authority that is trusted here"
    )
    with tls_before(behind, authority.context("other.example")) as other:
        assert "its certificate is for another host" in reason(through(settings, other, authority.file))
    missing = through(settings, postgres_proxy, Path("/nowhere/ca.pem"))
    assert "the file that sslrootcert names is not there" in reason(missing)


def test_a_postgres_without_tls_is_not_spoken_to_in_the_open(settings: Settings, authority: Authority) -> None:
    plain = Proxy(port_of(settings.nodes["node-1"].get_secret_value()))
    uri = through(settings, plain, authority.file).nodes["node-1"].get_secret_value()
    asking_first = settings.model_copy(
        update={"nodes": {"node-1": SecretStr(uri.replace("&sslnegotiation=direct", ""))}}
    )
    assert "it does not speak TLS" in reason(asking_first)


def test_wake_ups_and_marks_over_tls(redis_server: Redis, redis_proxy: Proxy, authority: Authority) -> None:
    url = rediss(redis_server, redis_proxy, authority.file)
    settings = load_settings(broker_url=url)
    assert settings.marks_url == url
    app = make_app(settings)
    with redis.Redis.from_url(redis_server.uri(0)) as plain:
        plain.delete("remember")
        assert Wakeups(app, NoMarks()).send(Kind.REMEMBER, 3)
        assert plain.llen("remember") == 1
        plain.delete("remember")
    sent = len(redis_proxy.sessions)
    assert sent >= 1
    marks = RedisMarks(url, 5.0)
    marks.clear("drain.remember", 3)
    assert marks.set("drain.remember", 3)
    assert not marks.set("drain.remember", 3)
    marks.clear("drain.remember", 3)
    status = broker_status(app, url)
    assert (status.kind, status.up, status.settings["appendonly"]) == ("redis", True, "yes")
    assert len(redis_proxy.sessions) > sent


def bad_urls(server: Redis, proxy: Proxy, stranger: Authority, authority: Authority) -> list[str]:
    """An authority that is not trusted, none named, and a name that is not the certificate's."""
    return [
        rediss(server, proxy, stranger.file),
        rediss(server, proxy, None),
        rediss(server, proxy, authority.file, "127.0.0.1"),
    ]


@pytest.mark.parametrize("which", range(3))
def test_certificates_of_redis_that_do_not_fit(
    which: int,
    redis_server: Redis,
    redis_proxy: Proxy,
    authority: Authority,
    stranger: Authority,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = bad_urls(redis_server, redis_proxy, stranger, authority)[which]
    settings = load_settings(broker_url=url)
    configure_logging(settings)
    app = make_app(settings)
    assert not Wakeups(app, NoMarks()).send(Kind.REMEMBER, 3)
    marks = RedisMarks(url, 5.0)
    assert marks.set("drain.remember", 3)
    assert marks.set("drain.remember", 3)
    assert not broker_status(app, url).up
    logging.getLogger().handlers.clear()
    lines = [line for line in capsys.readouterr().err.splitlines() if "wakeup.not_sent" in line or "marks.down" in line]
    assert len(lines) == 2
    for line in lines:
        assert "its certificate is" in line
        assert redis_server.password not in line.split("marks.down")[-1].split("wakeup.not_sent")[-1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hunter2@somewhere", "must begin with"),
        ("memory://hunter2", "must begin with"),
        ("redis://:hun/ter2@h:6379/0", "%2F"),
        ("rediss://:hunter2@h/0?ssl_ca_certs=/nowhere/hunter2.pem", "ssl_ca_certs names a file"),
        ("rediss://:hunter2@h/0?ssl_cert_reqs=hunter2", "ssl_cert_reqs is one of"),
    ],
)
def test_an_address_that_cannot_be_read_is_named_and_not_shown(url: str, said: str) -> None:
    for name in ("broker_url", "redis_url"):
        with pytest.raises(Misconfigured, match=said) as caught:
            load_settings(**{name: url})
        assert f"MEMLANE_{name.upper()}" in str(caught.value)
        assert "hun" not in str(caught.value)
