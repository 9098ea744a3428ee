"""Backup and restore: each schema by Postgres' own pg_dump and pg_restore, and a manifest that says what there is."""
