"""Addresses of broker and Redis: what is wrong with one is said without showing it, since it has a password."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

BROKERS = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp")
REDIS = ("redis", "rediss", "unix")

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CHECKS = ("required", "optional", "none")


def check_address(url: str, schemes: Sequence[str]) -> None:
    """See whether the libraries will understand an address; several may be given with semicolons between them.

    Raises:
        ValueError: they will not; tells which part.
    """
    for part in url.split(";"):
        if part.partition("://")[0] not in schemes:
            raise ValueError(f"must begin with {', '.join(f'{scheme}://' for scheme in schemes)}")
        try:
            split = urlsplit(part)
            _ = split.port
        except ValueError:
            raise ValueError(
                "is not an address: / ? # [ ] @ : % in a password are written as %2F %3F %23 %5B %5D %40 %3A %25"
            ) from None
        _check_tls(split)


def next_database(url: str) -> str:
    """The address of the database after the one that the address of a Redis names; without a number it is the first."""
    split = urlsplit(url)
    socket = split.scheme == "unix"
    query = parse_qs(split.query)
    named = query.pop("db", ["" if socket else split.path.strip("/")])[0]
    after = str(int(named) + 1 if named.isdecimal() else 1)
    if socket:
        return f"{url.partition('?')[0]}?{urlencode({**query, 'db': after}, doseq=True)}"
    return split._replace(path=f"/{after}", query=urlencode(query, doseq=True)).geturl()


def check_statsd(url: str) -> None:
    """See whether an address of a StatsD agent is one.

    Raises:
        ValueError: it is not.
    """
    split = urlsplit(url)
    socket = url.startswith("unix:///") and len(split.path) > 1
    if not socket and not (split.scheme == "udp" and split.hostname and split.path in {"", "/"}):
        raise ValueError("must be udp://host:port or unix:///path")
    try:
        _ = split.port
    except ValueError:
        raise ValueError("has a port that is none") from None


def with_verification(url: str) -> str:
    """A broker's address that has certificates verified unless it says otherwise: kombu does not by itself."""
    return ";".join(_verified(part) for part in url.split(";"))


def _check_tls(split: SplitResult) -> None:
    given = parse_qs(split.query)
    for name in _FILES:
        if name in given and not Path(given[name][0]).is_file():
            raise ValueError(f"{name} names a file that is not there")
    if given.get("ssl_cert_reqs", ["none"])[0] not in _CHECKS:
        raise ValueError(f"ssl_cert_reqs is one of {', '.join(_CHECKS)}")


def _verified(part: str) -> str:
    split = urlsplit(part)
    if split.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(split.query):
        return part
    return f"{part}{'&' if split.query else '?'}ssl_cert_reqs=required"
