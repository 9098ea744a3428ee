"""Settings whose servers are reached through proxies: a link for each node, for Redis and for the provider."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pydantic import SecretStr

from memlane.config.settings import Settings
from memlane.errors import Unavailable
from memlane.storage.cluster import Cluster, Shard
from tests.proxy import Proxy

REDIS, PROVIDER = "redis", "provider"

Fault = Callable[[Proxy], None]

FAULTS: dict[str, Fault] = {
    "cut": Proxy.cut,
    "stalled": Proxy.stall,
    "black-holed": lambda proxy: proxy.black_hole(accepting=False),
}
"""What may become of a link until it is mended."""

Links = dict[str, Proxy]
"""By the name of the node, or what the constants above say."""


@contextmanager
def linked(settings: Settings) -> Iterator[tuple[Links, Settings]]:
    """The links, and the settings that lead through them."""
    links: Links = {}
    with ExitStack() as open_links:

        def through(name: str, url: str) -> str:
            links[name], led = Proxy.before(url)
            open_links.enter_context(links[name])
            return led

        update: dict[str, object] = {
            "nodes": {name: SecretStr(through(name, uri.get_secret_value())) for name, uri in settings.nodes.items()}
        }
        if settings.broker_url.get_secret_value().startswith("redis"):
            proxy, url = Proxy.before(settings.broker_url.get_secret_value())
            links[REDIS] = open_links.enter_context(proxy)
            marks = url.rsplit("/", 1)[0] + "/1"
            update |= {"broker_url": SecretStr(url), "redis_url": SecretStr(marks)}
        if settings.openai_base_url is not None:
            update["openai_base_url"] = through(PROVIDER, settings.openai_base_url)
        yield links, settings.model_copy(update=update)


def agent_on(cluster: Cluster, node: str, tenant: str = "acme") -> str:
    """The name of an agent whose shard is on a node."""
    names = (f"agent-{number}" for number in range(1000))
    return next(name for name in names if cluster.shard(cluster.shard_of(tenant, name)).node.name == node)


def answers(shard: Shard) -> bool:
    """Whether a shard's node is back for this process, which refuses calls for a moment after a failure."""
    try:
        shard.ping()
    except Unavailable:
        return False
    return True
