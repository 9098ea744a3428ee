"""API keys: they rotate, expire, and tell when they were last used, and none of that is in a request's way."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import httpx
import pytest

from memlane.admin import Admin
from memlane.config.settings import Settings
from memlane.errors import NotFound, Unauthorized
from memlane.gateway.tally import Tally
from memlane.gateway.threads import NodeThreads
from memlane.storage import tenants
from memlane.storage.nodes import Node
from memlane.tasks.lane import Lane
from tests.contract.conftest import serving
from tests.support import MakeSettings, eventually, sql


@pytest.fixture
def control(lane: Lane) -> Node:
    """Where keys are kept."""
    return lane.cluster.control


@pytest.fixture
def admin(gateway: str, admin_key: str) -> Iterator[Admin]:
    """The admin's client."""
    made = Admin(gateway, admin_key)
    yield made
    made.close()


def status(url: str, key: str) -> int:
    """How a request with a key is answered."""
    return httpx.get(f"{url}/v1/ledger", headers={"Authorization": f"Bearer {key}"}, timeout=20).status_code


def prefix(key: str) -> str:
    return tenants.prefix_of(key)


def test_both_keys_are_good_until_the_grace_is_over(gateway: str, admin: Admin, control: Node, tenant_key: str) -> None:
    assert status(gateway, tenant_key) == 200  # from now on the gateway trusts it for 10 s
    made = admin.rotate_key(prefix(tenant_key), grace_s=3.0)
    assert (made.replaces, 2.0 < made.good_for_s <= 3.0) == (prefix(tenant_key), True)
    assert [status(gateway, key) for key in (tenant_key, made.key)] == [200, 200]
    eventually(lambda: status(gateway, tenant_key) == 401, 9)
    assert status(gateway, made.key) == 200
    old, new = tenants.keys(control, "acme")
    assert (new.tenant, new.label, new.expires_at) == (old.tenant, old.label, None)


def test_without_grace_the_old_key_ends_at_once(gateway: str, admin: Admin, control: Node, tenant_key: str) -> None:
    assert status(gateway, tenant_key) == 200
    made = admin.rotate_key(prefix(tenant_key), grace_s=0)
    assert [status(gateway, key) for key in (tenant_key, made.key)] == [401, 200]
    assert tenants.keys(control, "acme")[0].revoked_at is not None  # which the version before knows as well


def test_a_key_that_was_rotated_elsewhere_ends_within_the_cache_time(make_settings: MakeSettings) -> None:
    settings = make_settings(key_cache_s=0.05)
    lane = Lane(settings, "test")
    lane.open()
    tenants.create_tenant(lane.cluster.control, "acme")
    key = tenants.create_key(lane.cluster.control, "acme")
    with serving(settings) as url:
        assert status(url, key) == 200
        made = tenants.rotate_key(lane.cluster.control, prefix(key), 0)
        eventually(lambda: status(url, key) == 401, 5)
        assert status(url, made.key) == 200
    lane.close()


def test_a_grace_ends_no_later_than_the_key_itself(control: Node, tenant_key: str) -> None:
    short = tenants.create_key(control, "acme", lives_s=5.0)
    assert tenants.rotate_key(control, prefix(short), 3600).left_s <= 5.0
    assert tenants.rotate_key(control, prefix(tenant_key), 3600).left_s == 3600
    assert tenants.rotate_key(control, prefix(tenant_key), 7200).left_s <= 3600  # asked again: no longer than before


def test_what_replaces_a_key_lives_as_long(control: Node, tenant_key: str) -> None:
    short = tenants.create_key(control, "acme", "app", lives_s=500.0)
    made = tenants.rotate_key(control, prefix(short), 60)
    again = tenants.rotate_key(control, prefix(made.key), 60)
    (shown,) = [key for key in tenants.keys(control) if key.prefix == prefix(again.key)]
    assert shown.expires_at is not None
    assert (shown.expires_at - shown.created_at).total_seconds() == 500.0
    assert shown.label == "app"
    assert tenant_key not in again.key


def test_a_key_expires_though_the_gateway_trusts_it(gateway: str, admin: Admin, tenant_key: str) -> None:
    key = admin.create_key("acme", lives_s=3.0)
    assert [status(gateway, key), status(gateway, tenant_key)] == [200, 200]
    eventually(lambda: status(gateway, key) == 401, 9)
    with pytest.raises(NotFound, match="expired"):
        admin.rotate_key(prefix(key))
    for wrong in (-1.0, 0.0, 1e300):
        with pytest.raises(Exception, match="lives_s"):
            admin.create_key("acme", lives_s=wrong)


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Nobody gets at the keys meanwhile: for those who ask for one, control hangs."""
    with sql(settings) as connection, connection.transaction():
        connection.execute("LOCK TABLE control.api_keys IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_known_key_is_not_held_up_while_its_use_cannot_be_noted(
    gateway: str, settings: Settings, tenant_key: str
) -> None:
    with sql(settings) as connection:
        connection.execute("UPDATE control.api_keys SET last_used_at = NULL")
    assert status(gateway, tenant_key) == 200
    with locked(settings):
        slowest = 0.0
        for _ in range(50):
            begun = perf_counter()
            assert status(gateway, tenant_key) == 200
            slowest = max(slowest, perf_counter() - begun)
    assert slowest < 2.0


def test_a_key_expires_also_while_control_hangs(make_settings: MakeSettings) -> None:
    settings = make_settings(key_cache_s=0.05)
    lane = Lane(settings, "test")
    lane.open()
    tenants.create_tenant(lane.cluster.control, "acme")
    short, long = (tenants.create_key(lane.cluster.control, "acme", lives_s=lives_s) for lives_s in (4.0, None))
    with serving(settings) as url:
        assert [status(url, key) for key in (short, long)] == [200, 200]
        with locked(settings):
            eventually(lambda: status(url, short) == 401, 12)
            assert status(url, long) == 200
    lane.close()


def test_the_last_use_is_told(gateway: str, admin: Admin, tenant_key: str) -> None:
    def last() -> Any:
        (shown,) = admin.keys("acme")
        return shown.last_used_at

    assert last() is None
    assert status(gateway, tenant_key) == 200
    eventually(lambda: last() is not None)


def test_the_use_is_noted_once_a_minute(control: Node, settings: Settings, tenant_key: str) -> None:
    def note() -> Any:
        tenants.note_use(control, [prefix(tenant_key), "unknown"])
        return tenants.keys(control)[0].last_used_at

    first = note()
    assert note() == first
    with sql(settings) as connection:
        connection.execute("UPDATE control.api_keys SET last_used_at = now() - interval '61 seconds'")
    assert note() > first
    with sql(settings) as connection, connection.transaction():
        connection.execute("UPDATE control.api_keys SET last_used_at = now() - interval '1 hour'")
        begun = perf_counter()
        note()  # somebody holds the row: it is left to them
        assert perf_counter() - begun < 1.0


def test_a_tally_writes_a_key_once_and_lets_go_what_cannot_be_written(
    lane: Lane, settings: Settings, tenant_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[set[str]] = []
    real = tenants.note_use

    def note(control: Node, prefixes: set[str]) -> None:
        written.append(set(prefixes))
        real(control, prefixes)

    monkeypatch.setattr("memlane.gateway.tally.tenants.note_use", note)

    async def run() -> None:
        threads = NodeThreads(lane.cluster, settings)
        tally = Tally(lane, threads)
        for _ in range(3):
            tally.used(prefix(tenant_key))
            await tally.flush()
        lane.cluster.control.close()
        tally.used("another")
        await tally.flush()
        threads.close()

    asyncio.run(run())
    assert written == [{prefix(tenant_key)}, {"another"}]


def test_what_cannot_be_revoked_or_rotated_is_told(admin: Admin, tenant_key: str) -> None:
    calls: list[Callable[[str], object]] = [admin.revoke_key, admin.rotate_key]
    for call in calls:
        with pytest.raises(NotFound, match="there is no key with prefix 0123456789ab"):
            call("0123456789ab")
    admin.revoke_key(prefix(tenant_key))
    for call in calls:
        with pytest.raises(NotFound, match="was revoked"):
            call(prefix(tenant_key))


def test_only_the_admin_rotates(http: httpx.Client, tenant_key: str, gateway: str) -> None:
    assert http.post(f"/v1/admin/keys/{prefix(tenant_key)}/rotate", json={}).status_code == 403
    assert httpx.post(f"{gateway}/v1/admin/keys/{prefix(tenant_key)}/rotate", json={}).status_code == 401
    assert status(gateway, tenant_key) == 200


@pytest.mark.parametrize("body", [{"grace_s": -1}, {"grace_s": 1e12}, {"grace_s": "a day"}, {"other": 1}])
def test_a_grace_that_is_none(gateway: str, admin_key: str, tenant_key: str, body: dict[str, Any]) -> None:
    url = f"{gateway}/v1/admin/keys/{prefix(tenant_key)}/rotate"
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {admin_key}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


def test_a_good_prefix_alone_opens_nothing(control: Node, tenant_key: str) -> None:
    with pytest.raises(Unauthorized):
        tenants.authenticate(control, f"mlk_{prefix(tenant_key)}_{'0' * 48}")
    assert tenants.authenticate(control, tenant_key).principal.tenant == "acme"


def test_no_key_is_kept(settings: Settings, control: Node, tenant_key: str) -> None:
    made = tenants.rotate_key(control, prefix(tenant_key), 60)
    with sql(settings) as connection:
        rows = str(connection.execute("SELECT k::text FROM control.api_keys k").fetchall())
    for key in (tenant_key, made.key):
        assert prefix(key) in rows
        assert key.rpartition("_")[2] not in rows


def test_the_version_before_goes_on_beside_it(settings: Settings, control: Node, tenant_key: str) -> None:
    """Its statements, as they were: it makes keys, finds them, and takes a revocation for what it is."""
    with sql(settings) as connection:
        connection.execute(
            "INSERT INTO control.api_keys (prefix, key_hash, tenant, label) VALUES ('abc', '\\x00', 'acme', '')"
        )
        find = "SELECT key_hash, tenant FROM control.api_keys WHERE prefix = %s AND revoked_at IS NULL"
        assert connection.execute(find, (prefix(tenant_key),)).fetchone() is not None
        tenants.rotate_key(control, prefix(tenant_key), 0)
        assert connection.execute(find, (prefix(tenant_key),)).fetchone() is None
    assert {key.expires_at for key in tenants.keys(control) if key.prefix == "abc"} == {None}
