"""Named queries: every statement lives in sql/, is found by name, and is rendered for one shard.

A file looks like this, one query after the other:

    -- name: claim
    -- Lease up to so many due jobs, rotating over tenants.
    WITH ...

`{shard}` stands for the shard's schema and `{vectors}` for a model's table in it; values are
psycopg's named parameters. The rendered text differs per shard, so that each connection keeps a
prepared plan per shard instead of switching its search path.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

_HEAD = re.compile(r"^-- name: (\w+)\n((?:-- .+\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement with its purpose."""

    name: str
    purpose: str
    text: str

    @lru_cache(maxsize=20_000)  # noqa: B019  # queries are few and live as long as the process
    def render(self, **places: str) -> bytes:
        """The statement with its places filled in, in the given order: `shard`, `vectors` and the like."""
        text = self.text
        for place, value in places.items():
            text = text.replace("{" + place + "}", value)
        return text.encode()


@cache
def load(table: str) -> Mapping[str, Query]:
    """The queries of sql/<table>.sql by name."""
    return parse(table, (files("memlane.storage") / "sql" / f"{table}.sql").read_text())


def parse(table: str, text: str) -> Mapping[str, Query]:
    """The queries in a text of that form by name."""
    heads = list(_HEAD.finditer(text))
    ends = [h.start() for h in heads[1:]] + [len(text)]
    return {
        head[1]: Query(
            f"{table}.{head[1]}",
            " ".join(head[2].replace("-- ", "").split()),
            text[head.end() : end].strip().rstrip(";"),
        )
        for head, end in zip(heads, ends, strict=True)
    }
