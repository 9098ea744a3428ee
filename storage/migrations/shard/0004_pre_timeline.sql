-- A lease knows in whose history it was taken: when a standby took the primary's place meanwhile, its holder did not die.

ALTER TABLE {shard}.leases ADD COLUMN timeline text;   -- null: taken by the version before
