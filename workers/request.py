"""A task's request as workers show it: in events, `inspect` and logs the arguments are masked."""

from typing import Any

from celery.worker.request import Request

_MASK = "(not shown)"


class MaskedRequest(Request):  # type: ignore[misc]  # Celery is not typed
    """The producers' tasks carry memories in their arguments, which belong in no event and no log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._argsrepr = self._kwargsrepr = _MASK
        self._request_dict["argsrepr"] = self._request_dict["kwargsrepr"] = _MASK

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002  # safe or not, nothing is shown
        """What `inspect active` gets to see."""
        return {**super().info(safe=True), "args": _MASK, "kwargs": _MASK}
