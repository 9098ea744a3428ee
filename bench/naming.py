"""Naming: which named query a statement was rendered from, so that what was traced can be told in words."""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files

from memlane.storage import queries
from memlane.storage.queries import Query

_PLACE = re.compile(r"\\\{(\w+)\\\}")

_WORDS = {
    "agents.find": "agent found",
    "agents.numbers": "agent's number",
    "agents.register": "agent registered",
    "agents.names": "agent's name",
    "recall.candidates_of_many": "candidates of several",
    "embedding_cache.find": "cache asked",
    "embedding_cache.keep": "cache told",
    "spending.reserve": "budgets asked",
    "spending.settle": "usage noted",
    "memories.by_numbers": "hits read",
    "ids.accept": "identity, job, ledger",
    "jobs.claim": "jobs leased",
    "jobs.claim_suspects": "suspects looked for",
    "profile.commit": "a commit",
    "memories.store": "memory and vector stored",
}
"""What statements do; others go by their names."""

_FORMS = {
    "every_similarity": "exact",
    "filtered_similarity": "filtered",
    "fresh_similarity": "fresh",
    "indexed_similarity": "indexed",
    "no_similarity": "words alone",
}
"""How candidates are compared with the question, by the part of the statement that does."""


def words_of(statement: bytes) -> str:
    """What a statement does, in a few words."""
    name = name_of(statement)
    if name == "recall.candidates":
        return f"candidates ({form_of(statement)})"
    return _WORDS.get(name, name)


def form_of(statement: bytes) -> str:
    """How the candidates of a recall are compared."""
    text = statement.decode()
    parts = queries.load("recall")
    return next((form for name, form in _FORMS.items() if _pattern(parts[name].text).search(text)), "unknown")


@lru_cache(maxsize=1000)
def name_of(statement: bytes) -> str:
    """The name of the query that a statement was rendered from, with its file's; its first words if there is none."""
    text = statement.decode()
    found = next((query.name for query in _queries() if _pattern(query.text).fullmatch(text)), None)
    return found or " ".join(text.split()[:6])


@cache
def _queries() -> tuple[Query, ...]:
    def every() -> Iterator[Query]:
        for file in sorted((files("memlane.storage") / "sql").iterdir(), key=lambda file: file.name):
            yield from queries.load(file.name.removesuffix(".sql")).values()

    # The longest first: what is said with few words may have become anything.
    found = (query for query in every() if "{" not in query.text[:1])
    return tuple(sorted(found, key=lambda query: -len(query.text)))


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """What a query's text may have become: the same in each place of the same name."""
    seen: set[str] = set()

    def place(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>.*?)"

    return re.compile(_PLACE.sub(place, re.escape(text)), re.DOTALL)
