"""A group: the servers of one node, a primary and its standbys, with synchronous replication among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from memlane.embedded.folder import Folder, Replication, Secrets, Shape
from memlane.embedded.lineup import Lineup
from memlane.embedded.postgres import Postgres, uri
from memlane.errors import Misconfigured

STANDBY = "memlane_standby"
"""The role that standbys log in with."""

CONFIRMING = 1
"""How many standbys have to have what is written on their disks before it is confirmed."""

STANDBY_SETTINGS = {
    "hot_standby_feedback": "on",  # a recall on a standby is not cancelled by what is vacuumed away
    "wal_keep_size": "'1GB'",  # what a standby may be behind and still follow; a slot would keep all, and fill the disk
    "wal_sender_timeout": "'5s'",
    "wal_receiver_timeout": "'5s'",
    "wal_retrieve_retry_interval": "'500ms'",
}
"""What servers of a node with standbys have in common; docker-compose.yml has the same."""


def names_of(node: str, standbys: int) -> list[str]:
    """The names of a node's servers: its own for the first, then node-1b, node-1c and so on."""
    return [node, *(f"{node}{letter}" for letter in ascii_lowercase[1 : standbys + 1])]


@dataclass(frozen=True, slots=True)
class Group:
    """One node.

    Attributes:
        name: the node's.
        servers: all that belong to it, also those that are out.
        lineup: which is the primary.
    """

    name: str
    servers: tuple[Postgres, ...]
    lineup: Lineup

    @property
    def primary(self) -> Postgres:
        """The server that takes what is written."""
        return self.server(self.lineup.primary)

    @property
    def standbys(self) -> Sequence[Postgres]:
        """The servers that follow it."""
        return [s for s in self.servers if s.name != self.lineup.primary and s.name not in self.lineup.out]

    def server(self, name: str) -> Postgres:
        """A server by name."""
        return next(server for server in self.servers if server.name == name)

    @property
    def replicated(self) -> bool:
        """Whether it has standbys, or had."""
        return len(self.servers) > 1

    @property
    def address(self) -> str:
        """Hosts and ports of all its servers."""
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def uri(self) -> str:
        """Where to connect to, as the superuser: the primary is found among the servers."""
        return uri(self.address, self.primary.password)

    def uri_of(self, role: str, password: str) -> str:
        """Where a role with fewer rights connects to."""
        return uri(self.address, password, user=role)

    @property
    def confirmed_by(self) -> str:
        """The value of synchronous_standby_names: any of the others."""
        return confirmed_by([server.name for server in self.servers])


def confirmed_by(names: Sequence[str]) -> str:
    """The value of synchronous_standby_names for servers of these names; nothing for one alone."""
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"ANY {CONFIRMING} ({quoted})" if len(names) > 1 else ""


def group(
    folder: Folder, shape: Shape, secrets: Secrets, node: str, ports: Sequence[int], lineups: Mapping[str, Lineup]
) -> Group:
    """A node of a stack, whose servers listen on these ports.

    Raises:
        Misconfigured: its primary is one of the standbys that it would no longer have.
    """
    names = names_of(node, shape.standbys)
    lineup = lineups.get(node, Lineup(node))
    if lineup.primary not in names:
        raise Misconfigured(f"the primary of {node} is {lineup.primary}: the stack keeps as many standbys as it has")
    known = dict(zip(names, ports, strict=True))
    policy = Replication(shape.replication)
    servers = (
        Postgres(name, folder.path / name, port, secrets.postgres, _settings(name, known, secrets, policy))
        for name, port in known.items()
    )
    return Group(node, tuple(servers), lineup)


def _settings(name: str, ports: Mapping[str, int], secrets: Secrets, policy: Replication) -> dict[str, str]:
    """What a server is told of the others, be it the primary or not, so that it may become either."""
    others = [port for other, port in ports.items() if other != name]
    if not others:
        return {}
    upstream = {
        "host": ",".join(["127.0.0.1"] * len(others)),
        "port": ",".join(map(str, others)),
        "user": STANDBY,
        "password": secrets.postgres_standby,
        "target_session_attrs": "primary",
        "connect_timeout": "2",
    }
    return {
        **STANDBY_SETTINGS,
        "cluster_name": f"'{name}'",  # which a standby also calls itself
        "primary_conninfo": "'" + " ".join(f"{key}={value}" for key, value in upstream.items()) + "'",
        # Under availability the guard sets it, and a standby that is read from cannot know whether it was set.
        "synchronous_standby_names": f"'{confirmed_by(list(ports)) if policy is Replication.DURABILITY else ''}'",
    }
