-- name: known
-- Which of these roles there are.
SELECT rolname::text FROM pg_roles WHERE rolname = ANY(%(roles)s::text[]);

-- name: may_create
-- Whether we may create roles.
SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user;

-- name: unwatched
-- Which of the roles that let the sweep end other roles' sessions a role lacks, and whether we may grant each.
SELECT r.rolname::text, pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles r
WHERE r.rolname IN ('pg_read_all_stats', 'pg_signal_backend') AND NOT pg_has_role(%(role)s::name, r.oid, 'USAGE')
ORDER BY 1;

-- name: create
-- A group role: who logs in is the operator's affair.
CREATE ROLE {role} NOLOGIN;

-- name: watch
-- Let a role see other roles' sessions, and end them.
GRANT {watching} TO {role};

-- name: close
-- Nobody but the owner runs a schema's functions, unless it is granted.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC;

-- name: reset
-- Take back all that a role may do in a schema, its columns too; what it needs is granted in the same transaction.
REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role};
REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role};
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM {role};
REVOKE ALL ON SCHEMA {schema} FROM {role};
GRANT USAGE ON SCHEMA {schema} TO {role};

-- name: memlane_gateway_control
-- The gateway reads the map, knows tenants and keys, makes, rotates and revokes keys, shows the duties, sets limits,
-- prices and budgets, and pays for the vectors of questions.
GRANT SELECT ON control.cluster, control.shards, control.tenants, control.api_keys, control.ticks TO memlane_gateway;
GRANT INSERT ON control.tenants, control.api_keys TO memlane_gateway;
GRANT UPDATE (revoked_at, expires_at, last_used_at) ON control.api_keys TO memlane_gateway;
GRANT SELECT (model, is_current), UPDATE (backfilled_at) ON control.models TO memlane_gateway;
GRANT UPDATE (weight, rate, agent_rate, open_jobs) ON control.tenants TO memlane_gateway;
GRANT SELECT ON control.prices, control.budgets, control.spending, control.reservations, control.usage, control.latencies,
    control.alerts TO memlane_gateway;
GRANT INSERT ON control.spending, control.reservations, control.usage, control.latencies TO memlane_gateway;
GRANT UPDATE (settled, reserved, limit_micro) ON control.spending TO memlane_gateway;
GRANT UPDATE (requests, failed, texts, tokens, cost, saved_texts, saved_tokens, saved_cost) ON control.usage TO memlane_gateway;
GRANT UPDATE (requests, seconds) ON control.latencies TO memlane_gateway;
GRANT UPDATE (expires_at), DELETE ON control.reservations TO memlane_gateway;
GRANT INSERT, UPDATE, DELETE ON control.prices, control.budgets TO memlane_gateway;
GRANT DELETE ON control.spending TO memlane_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON control.processes, control.past_counts, control.incidents TO memlane_gateway;
GRANT SELECT ON control.vacuums, control.knobs, control.tunings, control.places TO memlane_gateway;
GRANT SELECT, INSERT ON control.reports TO memlane_gateway;
GRANT SELECT ON control.reports, control.vacuums, control.tunings, control.past_usage TO memlane_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON control.knobs TO memlane_gateway;
GRANT INSERT, UPDATE (state, decided_at) ON control.tunings TO memlane_gateway;
GRANT EXECUTE ON FUNCTION control.spending_lock(), control.today(), control.starts(text, date), control.ends(text, date),
    control.concerned(text[], text[]), control.added_up(text[], text[], bigint[]),
    control.begin_period(control.budgets, date),
    control.reserve(uuid, text, text[], text[], bigint[], float8),
    control.settle(uuid, text, text[], text[], float8[], float8[], int[], bigint[], int[], bigint[], int, float8),
    control.spend(control.reservations, text[], text[], bigint[]),
    control.set_budget(text, text, text, bigint, text), control.remove_budget(text, text, text), control.retire(text[])
    TO memlane_gateway;

-- name: memlane_gateway_shard
-- The gateway accepts, reads, recalls, counts accesses, updates, forgets, opens jobs, and does what is decided about those
-- that are parked and about strays, which it may not read; it claims and stores nothing.
GRANT EXECUTE ON FUNCTION {schema}.fence(bigint) TO memlane_gateway;
GRANT USAGE, SELECT ON SEQUENCE {schema}.numbers TO memlane_gateway;
GRANT SELECT ON {schema}.meta, {schema}.agents, {schema}.threads, {schema}.ids, {schema}.jobs, {schema}.memories,
    {schema}.versions, {schema}.memory_stats, {schema}.embedding_cache, {schema}.promotions, {schema}.ledger,
    {schema}.moments, {schema}.patterns, {schema}.epochs, {schema}.canaries TO memlane_gateway;
GRANT SELECT (id, task, tenant, reason, target, received_at, bytes), UPDATE (target), DELETE ON {schema}.strays
    TO memlane_gateway;
GRANT INSERT ON {schema}.agents, {schema}.threads, {schema}.ids, {schema}.jobs, {schema}.versions,
    {schema}.memory_stats, {schema}.embedding_cache, {schema}.ledger, {schema}.queries TO memlane_gateway;
GRANT UPDATE (memories, words, conditional, forgotten_before, forgotten_by, version) ON {schema}.agents TO memlane_gateway;
GRANT UPDATE (epoch) ON {schema}.epochs TO memlane_gateway;
GRANT UPDATE (turns) ON {schema}.threads TO memlane_gateway;
GRANT UPDATE (state) ON {schema}.ids TO memlane_gateway;
GRANT UPDATE (lease, not_before, deaths, parked_at, error, payload, created_at) ON {schema}.jobs TO memlane_gateway;
GRANT UPDATE (content, kind, importance, tags, metadata, occurred_at, expires_at, supersedes, pinned, version, changed_at,
    words) ON {schema}.memories TO memlane_gateway;
GRANT UPDATE (access_count, last_accessed_at, resonance) ON {schema}.memory_stats TO memlane_gateway;
GRANT UPDATE (used_at) ON {schema}.embedding_cache TO memlane_gateway;
GRANT DELETE ON {schema}.jobs, {schema}.memories, {schema}.versions, {schema}.memory_stats, {schema}.embedding_cache
    TO memlane_gateway;

-- name: memlane_gateway_vectors
-- The gateway compares vectors, and removes those of memories that are forgotten.
GRANT SELECT, DELETE ON {schema}.{vectors} TO memlane_gateway;

-- name: memlane_worker_control
-- Workers read the map and what tenants may do, note their duties, pay for vectors and tell of budgets; keys are not their
-- affair.
GRANT SELECT ON control.cluster, control.shards TO memlane_worker;
GRANT SELECT, INSERT, DELETE, UPDATE (done_at, outcome, detail) ON control.ticks TO memlane_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON control.places, control.processes, control.past_counts, control.incidents,
    control.knobs, control.tunings TO memlane_worker;
GRANT SELECT, INSERT, DELETE ON control.reports, control.vacuums TO memlane_worker;
GRANT UPDATE (totals) ON control.reports TO memlane_worker;
GRANT SELECT (tenant, weight, rate, agent_rate, open_jobs) ON control.tenants TO memlane_worker;
GRANT SELECT ON control.prices, control.budgets, control.spending, control.reservations, control.usage, control.latencies,
    control.alerts TO memlane_worker;
GRANT INSERT ON control.spending, control.reservations, control.usage, control.latencies TO memlane_worker;
GRANT UPDATE (settled, reserved, limit_micro) ON control.spending TO memlane_worker;
GRANT UPDATE (requests, failed, texts, tokens, cost, saved_texts, saved_tokens, saved_cost) ON control.usage TO memlane_worker;
GRANT UPDATE (requests, seconds) ON control.latencies TO memlane_worker;
GRANT UPDATE (expires_at), DELETE ON control.reservations TO memlane_worker;
GRANT INSERT, UPDATE (told_at, tries), DELETE ON control.alerts TO memlane_worker;
GRANT EXECUTE ON FUNCTION control.spending_lock(), control.today(), control.starts(text, date), control.ends(text, date),
    control.concerned(text[], text[]), control.added_up(text[], text[], bigint[]),
    control.begin_period(control.budgets, date),
    control.reserve(uuid, text, text[], text[], bigint[], float8),
    control.settle(uuid, text, text[], text[], float8[], float8[], int[], bigint[], int[], bigint[], int, float8),
    control.spend(control.reservations, text[], text[], bigint[]), control.charge_one(), control.retire(text[])
    TO memlane_worker;

-- name: memlane_worker_shard
-- Workers claim and finish jobs, take producers' messages in, and remove what was forgotten.
GRANT EXECUTE ON FUNCTION {schema}.fence(bigint) TO memlane_worker;
GRANT USAGE ON SEQUENCE {schema}.numbers TO memlane_worker;
GRANT SELECT ON {schema}.meta, {schema}.agents, {schema}.threads, {schema}.ids, {schema}.jobs, {schema}.leases,
    {schema}.memories, {schema}.versions, {schema}.memory_stats, {schema}.embedding_cache, {schema}.strays,
    {schema}.moments, {schema}.queries, {schema}.patterns, {schema}.promotions, {schema}.canaries TO memlane_worker;
GRANT INSERT ON {schema}.agents, {schema}.threads, {schema}.ids, {schema}.jobs, {schema}.leases, {schema}.memories,
    {schema}.embedding_cache, {schema}.ledger, {schema}.strays, {schema}.moments, {schema}.patterns TO memlane_worker;
GRANT UPDATE (memories, words, conditional, forgotten_before, forgotten_by) ON {schema}.agents TO memlane_worker;
GRANT UPDATE (supersedes) ON {schema}.memories TO memlane_worker;
GRANT UPDATE (turns) ON {schema}.threads TO memlane_worker;
GRANT UPDATE (state) ON {schema}.ids TO memlane_worker;
GRANT UPDATE (lease, not_before, deaths, died_in, parked_at, error) ON {schema}.jobs TO memlane_worker;
GRANT UPDATE (expires_at, error) ON {schema}.leases TO memlane_worker;
GRANT UPDATE (target, reason) ON {schema}.strays TO memlane_worker;
GRANT UPDATE (query, spelt, seen, last_at, found_at) ON {schema}.patterns TO memlane_worker;
GRANT UPDATE (used_at) ON {schema}.embedding_cache TO memlane_worker;
GRANT SELECT ON SEQUENCE {schema}.numbers TO memlane_worker;
GRANT DELETE ON {schema}.jobs, {schema}.leases, {schema}.memories, {schema}.versions, {schema}.memory_stats,
    {schema}.embedding_cache, {schema}.strays, {schema}.moments, {schema}.queries, {schema}.patterns TO memlane_worker;

-- name: memlane_worker_vectors
-- Workers add vectors, and remove those of memories that were forgotten.
GRANT SELECT, INSERT, DELETE ON {schema}.{vectors} TO memlane_worker;
