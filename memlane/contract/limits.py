"""The limits of what memlane takes in: one place for the contract, the gateway and the docs."""

CONTENT_BYTES = 32 * 1024
"""Largest content of one memory, in bytes of UTF-8."""

METADATA_BYTES = 16 * 1024
"""Largest metadata of one memory, in bytes of compact JSON."""

METADATA_DEPTH = 32
"""How deep metadata may be nested."""

NAME_CHARS = 128
"""Longest agent, key, thread, speaker or kind, in characters."""

DIMS = 4000
"""Most dimensions of a vector; pgvector's halfvec indexes no more."""

TAGS = 32
"""Most tags on one memory."""

TAG_CHARS = 64
"""Longest tag, in characters."""

KINDS = 100
"""Most kinds that a filter names."""

FIELDS = 32
"""Most fields of one object, known or not; an error for each of a million would be work for nothing."""

QUERY_BYTES = 8 * 1024
"""Longest query of a recall, in bytes of UTF-8."""

BATCH_ITEMS = 1000
"""Most items in one batch."""

BODY_BYTES = 8 * 1024 * 1024
"""Largest request body, in bytes."""

RECALL_HITS = 100
"""Most hits of one recall."""

RECALL_AGENTS = 100
"""Most agents of one recall."""

PAGE_ITEMS = 1000
"""Most memories on one page of a list."""

HISTORY_ITEMS = 100
"""Most earlier contents of a memory that are shown."""

VECTOR_ITEMS = 100
"""Most memories on one page of a list with vectors."""

WAIT_S = 60.0
"""Longest time that a request waits for a receipt, in seconds."""

WEIGHT = 1_000
"""Largest weight of a tenant."""

RATE = 1_000_000_000
"""Highest rate of a tenant or an agent, in items a minute."""

OPEN_JOBS = 1_000_000_000_000
"""Highest cap of a tenant's open jobs."""

KEY_S = 10 * 366 * 86_400
"""Longest time that a key may be made for, or go on beside the one that takes its place, in seconds."""

BUDGET_MICRO = 10**12
"""Largest budget, in micro-dollars: a million dollars for a day or a month."""

PRICE_MICRO = 10**9
"""Highest price, in micro-dollars for a million tokens: a thousand dollars."""
