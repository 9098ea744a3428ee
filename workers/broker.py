"""The broker as operators see it: whether it answers, and whether it keeps what it is given."""

import redis
from celery import Celery

from memlane.contract.status import BrokerStatus

_KEEPS = ("appendonly", "appendfsync", "maxmemory-policy")


def broker_status(app: Celery, url: str) -> BrokerStatus:
    """Ask the broker; one that does not answer within two seconds is down."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        return BrokerStatus(url.partition(":")[0], _connects(app), {})
    try:
        with redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
            client.ping()
            return BrokerStatus("redis", True, _settings(client))
    except redis.RedisError:
        return BrokerStatus("redis", False, {})


def _settings(client: redis.Redis) -> dict[str, str]:
    """What it promises to keep; managed servers refuse to say."""
    try:
        return {name: str(client.config_get(name).get(name)) for name in _KEEPS}
    except redis.ResponseError:
        return {}


def _connects(app: Celery) -> bool:
    try:
        with app.connection_for_write(connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except Exception:  # noqa: BLE001  # whatever the transport raises, it is down
        return False
    return True
