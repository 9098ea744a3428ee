-- name: worth
-- Of each agent the memories that are most likely to be recalled: used lately, not faded, ordered by importance,
-- resonance and accesses. Accesses count by their logarithm, as a share of that of the agent's most recalled one: the
-- tenth recall says more than the thousandth.
SELECT a.number, a.agent, a.tenant, best.numbers
FROM {shard}.agents a CROSS JOIN LATERAL (
    SELECT array_agg(number) AS numbers FROM (
        SELECT u.number
        FROM (SELECT s.number, s.last_accessed_at, {still} AS resonance,
                     ln(1 + s.access_count) / nullif(ln(1 + max(s.access_count) OVER ()), 0) AS access
              FROM {shard}.memory_stats s
              WHERE s.agent = a.number AND s.number >= a.forgotten_before) u
        JOIN {shard}.memories m ON m.agent = a.number AND m.number = u.number
        WHERE u.last_accessed_at > now() - make_interval(secs => %(used_s)s) AND u.resonance > %(resonance)s
          AND (m.expires_at IS NULL OR m.expires_at > now())
        ORDER BY %(importance_weight)s * m.importance + %(resonance_weight)s * u.resonance
                     + %(access_weight)s * coalesce(u.access, 0) DESC, u.number DESC
        LIMIT %(memories)s) chosen) best
WHERE a.number = ANY(%(agents)s::bigint[]) AND best.numbers IS NOT NULL
ORDER BY array_position(%(agents)s::bigint[], a.number);
