"""Where the server is: as given, or as the environment says."""

import os
from urllib.parse import urlsplit

from memlane.errors import Misconfigured


def resolve(url: str | None, api_key: str | None) -> tuple[str, str]:
    """The gateway's URL and the key: given, or from MEMLANE_URL and MEMLANE_API_KEY.

    Raises:
        Misconfigured: one of them is nowhere.
    """
    url = url or os.environ.get("MEMLANE_URL")
    api_key = api_key or os.environ.get("MEMLANE_API_KEY")
    if not url or not api_key:
        raise Misconfigured(
            "where is memlane? give url and api_key, or set MEMLANE_URL and MEMLANE_API_KEY; "
            "`memlane env` prints them for the stack on this machine"
        )
    if not _names_a_gateway(url):
        raise Misconfigured(f"{url} is no URL of a gateway, like http://127.0.0.1:8777")
    if not (api_key.isascii() and api_key.isprintable()):
        raise Misconfigured("the API key is none: it has signs that no key has")
    return url.rstrip("/"), api_key


def _names_a_gateway(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a bracket that makes no sense
        return False


def certificates() -> tuple[str | None, str | None]:
    """The file and the folder of certificates that the environment trusts, if it names any."""
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
