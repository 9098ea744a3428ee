"""Celery's consumer, without its habit of printing the body of a message that it cannot use.

Such a message is logged and dropped: it carries no job of ours, or one that cannot be read. What can
be read but does not validate gets as far as the task and is kept as a stray. A task of ours that only a newer
version knows goes back to its queue, for a worker of that version.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery.worker.consumer.consumer import Consumer as CeleryConsumer

log = structlog.get_logger(__name__)


_OURS = ("memory.", "drain.", "beat.")
"""How the names of our tasks begin."""

_FOR_OTHERS_S = 2.0
"""How long a task that we do not know is kept before it goes back to its queue: it must not go round and round."""

_OF_A_MESSAGE = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a message that keeps to no protocol makes Celery and kombu raise. (kombu counts KeyError among the errors of
a connection, upon which Celery reconnects, gets the message again, and in the end gives up.)"""


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery is not typed
    """Says what is wrong with a message, and never what is in it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loop: Callable[..., None] = self.loop
        self.loop: Callable[..., None] = self._survive

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Celery's own handler, which raises for a message that does not keep to its protocol: and then stops."""
        handle = super().create_task_handler(*args, **kwargs)

        def guarded(message: Any) -> None:
            try:
                handle(message)
            except _OF_A_MESSAGE as error:
                self.on_invalid_task(None, message, error)

        return guarded

    def _survive(self, *args: Any) -> None:
        """Celery's loop, which ends with the worker if an envelope is not what kombu writes; we only reconnect."""
        try:
            self._loop(*args)
        except _OF_A_MESSAGE as error:
            log.exception("message.no_envelope")
            raise ConnectionResetError("a message was no message") from error

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """The body is not what its content type says."""
        log.error("message.undecodable", content_type=str(message.content_type), why=type(exc).__name__)
        message.ack()

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        """It is not a task at all."""
        log.error("message.not_a_task", content_type=str(message.content_type))
        message.reject_log_error(_quiet, self.connection_errors)

    def on_unknown_task(self, _body: Any, message: Any, _exc: BaseException) -> None:
        """No task that we know has this name; a newer version may."""
        name = str(message.headers.get("task"))
        if not name.startswith(_OURS):
            log.error("message.unknown_task", task=name)
            message.reject_log_error(_quiet, self.connection_errors)
            return
        log.warning("message.for_others", task=name)
        self.qos.increment_eventually()  # it takes nobody's place while it waits
        self.timer.call_after(_FOR_OTHERS_S, self._put_back, (message,))

    def _put_back(self, message: Any) -> None:
        """Let another worker have a message."""
        self.qos.decrement_eventually()
        message.reject_log_error(_quiet, self.connection_errors, requeue=True)

    def on_invalid_task(self, _body: Any, message: Any, exc: BaseException) -> None:
        """It does not keep to Celery's protocol."""
        log.error("message.invalid", why=type(exc).__name__)
        message.reject_log_error(_quiet, self.connection_errors)


class _Quiet:
    def critical(self, *_: object, **__: object) -> None:
        log.error("message.not_rejected")


_quiet = _Quiet()
