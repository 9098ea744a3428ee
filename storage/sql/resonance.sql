-- name: now
-- A part of other queries: what is left of a memory's resonance; m is the memory, s its stats, which may be missing. The
-- numbers here are those of memlane.contract.tiers.
(CASE WHEN s.agent IS NULL THEN {born} ELSE {still} END)::real;

-- name: born
-- A part of other queries: what is left of the resonance that a memory m was born with.
(0.5 * power(0.995, greatest(0, extract(epoch FROM now() - m.created_at)::float8) / 3600));

-- name: still
-- A part of other queries: what is left of a memory's resonance as of its last recall, by its stats s.
(s.resonance * power(0.995, greatest(0, extract(epoch FROM now() - s.last_accessed_at)::float8) / 3600));
