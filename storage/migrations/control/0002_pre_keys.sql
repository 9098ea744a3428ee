-- Keys end: when they were made for a time, or were replaced by another. All is nullable, so that processes of the
-- version before go on beside it; they know of revocation alone.

ALTER TABLE control.api_keys
    ADD COLUMN lives        interval,      -- how long it was made for, and so what replaces it; null: for good
    ADD COLUMN expires_at   timestamptz,   -- null: never
    ADD COLUMN last_used_at timestamptz;   -- to the minute
