"""Channels: where alerts are told, by apprise: mail, chat, webhooks. One that is dead, slow or wrong harms nothing.

Their addresses are secrets. apprise and what it goes by would log them, so that their loggers are kept quiet
(config/logging.py), and we name a channel by its number and kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from pydantic import SecretStr

TELL_S = 10.0
"""How long a channel may take; apprise itself waits four seconds for a connection, and as long for each answer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a message on one channel.

    Attributes:
        channel: its number in the settings, and its kind: `1 (slack)`.
        why: what went wrong; None if it was taken.
    """

    channel: str
    why: str | None = None


def tell(urls: Sequence[SecretStr], title: str, body: str, within_s: float = TELL_S) -> list[Told]:
    """Send a message to all channels side by side; never raises for what a channel does.

    Args:
        urls: apprise's.
        title: the subject, where there is such a thing.
        body: plain text.
        within_s: how long they are waited for.
    """
    ended = monotonic() + within_s
    asked = [(_name(number, url), _begun(url, title, body)) for number, url in enumerate(urls, 1)]
    return [Told(name, _waited(thread, answer, ended, within_s)) for name, (thread, answer) in asked]


def _name(number: int, url: SecretStr) -> str:
    kind, found, _ = url.get_secret_value().partition("://")
    return f"{number} ({kind})" if found and kind.isalnum() and len(kind) <= 20 else str(number)


def _begun(url: SecretStr, title: str, body: str) -> "tuple[Thread, SimpleQueue[str | None]]":
    """A thread that sends the message to one channel, and where it puts what came of it."""
    answer: SimpleQueue[str | None] = SimpleQueue()
    thread = Thread(target=lambda: answer.put(_sent(url, title, body)), name="alert", daemon=True)
    thread.start()
    return thread, answer


def _waited(thread: Thread, answer: "SimpleQueue[str | None]", until: float, within_s: float) -> str | None:
    thread.join(max(0.0, until - monotonic()))
    return f"no answer within {within_s:g} s" if answer.empty() else answer.get()


def _sent(url: SecretStr, title: str, body: str) -> str | None:
    """What went wrong, if anything did."""
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    try:
        channel = Apprise(asset=AppriseAsset(app_id="memlane", app_desc="memlane", async_mode=False))
        if not channel.add(url.get_secret_value()):
            return "this is no address that apprise knows"
        done = channel.notify(body=body, title=title, notify_type=NotifyType.WARNING, body_format=NotifyFormat.TEXT)
    except Exception as error:  # noqa: BLE001  # whatever a channel's library raises; its words may quote the address
        return type(error).__name__
    return None if done else "it does not answer, or refuses"
