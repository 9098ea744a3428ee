"""What can go wrong, as one tree; `retryable` says whether the same call may succeed later.

MemlaneError
├── InvalidInput        a field is wrong; `fields` names it
│   ├── Malformed       a body that is not JSON
│   ├── TooLarge        a body over the limit
│   └── TooSlow         a body that did not arrive in time (retryable)
├── Unauthorized        no key, an unknown or a revoked one
│   └── Forbidden       a key that may not do this
├── NotFound            no such memory
├── Conflict            the same key or id with other content; `first` is the one that holds it
├── WaitTimeout         a receipt did not get there in time (retryable)
├── NeverReached        a receipt will not get there: it was parked or forgotten
├── Unavailable         something is down or busy (retryable, `retry_after_s`)
│   ├── NodeDown        a Postgres node does not answer
│   ├── ShardMoved      the shard lives elsewhere now; the map has to be read again
│   ├── RateLimited     over a rate or a cap; there is room again later
│   └── ProviderRefused the embeddings provider is down, slow, or answers badly
│       ├── RateRefused     it is asked too often
│       └── BudgetRefused   a budget does not allow what it would cost
├── BudgetExceeded      over a budget; there is room again in its next period, or when it is raised
├── Misconfigured       a setting, a port, a data directory: an operator has to act
│   ├── ModelMissing    the weights of a local model are not here
│   └── NotMigrated     the schema is missing or older than this version
└── ServerError         the server answered with something else
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is wrong, and how; `index` is the item's place where it came in a batch."""

    field: str
    detail: str
    index: int | None = None


class MemlaneError(Exception):
    """Everything that memlane raises.

    Attributes:
        retryable: whether the same call may succeed later.
        ours: whether something of ours, or that we depend on, has failed; else it was whoever asks, or a limit.
    """

    retryable = False
    ours = True


class InvalidInput(MemlaneError):
    """What was handed over is not acceptable; nothing of it was taken in."""

    ours = False

    def __init__(self, fields: Sequence[FieldError], detail: str | None = None) -> None:
        self.fields = tuple(fields)
        super().__init__(detail or "; ".join(f"{f.field}: {f.detail}" for f in self.fields))


class Malformed(InvalidInput):
    """A body that is not JSON at all."""


class TooLarge(InvalidInput):
    """A body over the limit."""


class TooSlow(InvalidInput):
    """A body that did not arrive in time."""

    retryable = True


class Unauthorized(MemlaneError):
    """No key, an unknown one, or one that was revoked."""

    ours = False


class Forbidden(Unauthorized):
    """The key is good, but not for this."""


class NotFound(MemlaneError):
    """There is no such thing, or it is another tenant's."""

    ours = False


class Conflict(MemlaneError):
    """The same key or id came before with other content.

    Attributes:
        first: the id of the memory that holds it.
    """

    ours = False

    def __init__(self, detail: str, first: UUID | None = None) -> None:
        super().__init__(detail)
        self.first = first


class WaitTimeout(MemlaneError):
    """A receipt did not reach the state in time; it is as durable as before."""

    retryable = True
    ours = False


class NeverReached(MemlaneError):
    """A receipt will not reach the state: its memory was parked or forgotten meanwhile."""

    ours = False


class Unavailable(MemlaneError):
    """Something is down or busy; the same call with the same ids may be sent again."""

    retryable = True

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class NodeDown(Unavailable):
    """A Postgres node does not answer, or answered that it is going away."""


class ShardMoved(Unavailable):
    """A shard is not where the map said, or not open for writing."""


class RateLimited(Unavailable):
    """Over a rate or a cap: the same call, with the same ids, may be sent again when it says.

    Attributes:
        limit: which: `tenant`, `agent` (their rates), `open_jobs`, `agent_open_bytes`, or another that whoever
            raised it names.
    """

    ours = False

    def __init__(self, detail: str, retry_after_s: float = 1.0, *, limit: str = "tenant") -> None:
        super().__init__(detail, retry_after_s)
        self.limit = limit


class ProviderRefused(Unavailable):
    """The embeddings provider cannot or will not answer now, or its answer is unusable.

    Attributes:
        about_input: it refused one of the texts, so that the others may go through without it.
        tokens: what it charged for all the same; 0: surely nothing; None: nobody knows.
    """

    def __init__(
        self, detail: str, retry_after_s: float = 1.0, *, about_input: bool = False, tokens: int | None = 0
    ) -> None:
        super().__init__(detail, retry_after_s)
        self.about_input = about_input
        self.tokens = tokens


class RateRefused(ProviderRefused):
    """The provider has had enough for now: it says so to all who ask, and for how long."""

    ours = False


class BudgetRefused(ProviderRefused):
    """A budget does not allow the request, or cannot be asked."""

    ours = False


class BudgetExceeded(MemlaneError):
    """What was asked for would cost more than a budget has left; nothing of it was taken in.

    Attributes:
        spent_micro: what is spent of the budget, and set aside for calls under way, in micro-dollars.
        limit_micro: the budget, in micro-dollars.
        resets_at: when it begins anew.
    """

    ours = False

    def __init__(
        self,
        detail: str,
        *,
        spent_micro: int | None = None,
        limit_micro: int | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(detail)
        self.spent_micro = spent_micro
        self.limit_micro = limit_micro
        self.resets_at = resets_at


class Misconfigured(MemlaneError):
    """Something that an operator has to set right; the message says what and how."""


class ModelMissing(Misconfigured):
    """The weights of a local model are not on this machine."""


class NotMigrated(Misconfigured):
    """The database's schema is missing or older than this version; `memlane migrate` brings it up."""


class ServerError(MemlaneError):
    """The server answered with something that is none of the above."""


def not_ours() -> frozenset[str]:
    """The names of the errors of this tree that are no failure of ours, as metrics have them."""
    tree = [MemlaneError]
    for kind in tree:  # grows
        tree += (one for one in kind.__subclasses__() if one.__module__ == __name__)
    return frozenset(kind.__name__ for kind in tree if not kind.ours)
