-- Versions of what agents know, by which caches tell what is still true. They are random, not counted: no history, not
-- even one that was restored, says the same of two different states.

-- What a cache knows of a whole shard is true as long as this stays.
CREATE TABLE {shard}.epochs (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO {shard}.epochs DEFAULT VALUES;

-- Agents that are there begin with one version in common, so that no row is rewritten.
DO $$ BEGIN
    EXECUTE format('ALTER TABLE {shard}.agents ADD COLUMN version uuid NOT NULL DEFAULT %L', gen_random_uuid());
END $$;
ALTER TABLE {shard}.agents ALTER COLUMN version SET DEFAULT gen_random_uuid();

-- Whatever changes an agent changes its version, also the statements of processes that do not know of it.
CREATE FUNCTION {shard}.renew_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := gen_random_uuid();
    RETURN NEW;
END $$;
CREATE TRIGGER renew_version BEFORE UPDATE ON {shard}.agents FOR EACH ROW EXECUTE FUNCTION {shard}.renew_version();

-- A vector that comes later changes what can be found, but nothing of its agent's row: its identity alone says so. Whoever
-- adds it has locked the agent by then.
CREATE FUNCTION {shard}.found_by_meaning() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {shard}.agents SET memories = memories
    WHERE number = NEW.agent AND xmin <> pg_current_xact_id()::xid;
    RETURN NULL;
END $$;
CREATE TRIGGER found_by_meaning AFTER UPDATE OF state ON {shard}.ids FOR EACH ROW
    WHEN (OLD.state = 'stored' AND NEW.state = 'searchable') EXECUTE FUNCTION {shard}.found_by_meaning();
