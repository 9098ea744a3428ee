-- A request to forget that arrives a second time, late, is not obeyed again: what was accepted since is not meant.

ALTER TABLE {shard}.agents ADD COLUMN forgotten_by uuid;   -- the last request that forgot something of it; null: none said
