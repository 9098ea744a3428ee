-- The indexes for the life of a memory. Statements with CONCURRENTLY are run one by one, outside a transaction: whoever
-- reads and writes goes on. What a run that broke off has left is made anew.

DROP INDEX CONCURRENTLY IF EXISTS {shard}.memories_expiring;
CREATE INDEX CONCURRENTLY memories_expiring ON {shard}.memories (expires_at) WHERE expires_at IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS {shard}.memories_superseding;
CREATE INDEX CONCURRENTLY memories_superseding ON {shard}.memories (agent, supersedes) WHERE supersedes IS NOT NULL;

ANALYZE {shard}.memories;
