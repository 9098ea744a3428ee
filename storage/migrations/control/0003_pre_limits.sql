-- Money, rates and shares. Costs are counted exactly, in millionths of a micro-dollar (pico-dollars): so many tokens
-- times a price in micro-dollars for a million tokens.

-- What a tenant may do; null: as the settings say.
ALTER TABLE control.tenants
    ADD COLUMN weight      int CHECK (weight > 0),       -- its share of each claim, beside the others' (1 unless set)
    ADD COLUMN rate        int CHECK (rate > 0),         -- items that are accepted in a minute
    ADD COLUMN agent_rate  int CHECK (agent_rate > 0),   -- the same, for each of its agents
    ADD COLUMN open_jobs   bigint CHECK (open_jobs > 0); -- jobs that may be open at once

CREATE TABLE control.prices (
    model             text PRIMARY KEY,                -- as the provider calls it
    micro_per_million bigint NOT NULL CHECK (micro_per_million >= 0),
    set_at            timestamptz NOT NULL DEFAULT now()
);
-- OpenAI's as published at https://platform.openai.com/docs/pricing (standard tier); local models cost nothing.
INSERT INTO control.prices (model, micro_per_million)
VALUES ('text-embedding-3-small', 20000), ('text-embedding-3-large', 130000), ('text-embedding-ada-002', 100000),
       ('all-minilm-l6-v2', 0), ('hash', 0);

CREATE TABLE control.budgets (
    tenant      text NOT NULL REFERENCES control.tenants,
    agent       text NOT NULL DEFAULT '',              -- empty: all that the tenant spends
    period      text NOT NULL CHECK (period IN ('day', 'month')),  -- by the calendar, in UTC
    limit_micro bigint NOT NULL CHECK (limit_micro BETWEEN 1 AND 1000000000000),
    at_limit    text NOT NULL CHECK (at_limit IN ('defer', 'reject')),
    set_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, agent, period)
);

-- What of a budget is spent, and set aside for calls under way, in each of its periods.
CREATE TABLE control.spending (
    tenant      text NOT NULL,
    agent       text NOT NULL,
    period      text NOT NULL,
    starts      date NOT NULL,
    limit_micro bigint NOT NULL,                       -- at the last time
    settled     bigint NOT NULL DEFAULT 0,
    reserved    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, agent, period, starts)
) WITH (fillfactor = 70);

-- A call under way: what it may cost at most, for whom. One that nobody settles becomes a charge.
CREATE TABLE control.reservations (
    id         uuid PRIMARY KEY,
    model      text NOT NULL,
    price      bigint NOT NULL,
    day        date NOT NULL,                          -- on whose account it goes, also when it ends on the next
    tenants    text[] NOT NULL,
    agents     text[] NOT NULL,
    tokens     bigint[] NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE control.usage (
    day          date NOT NULL,
    tenant       text NOT NULL,
    agent        text NOT NULL,                        -- empty: texts and questions of no agent
    model        text NOT NULL,
    requests     float8 NOT NULL DEFAULT 0,            -- a request for several agents is shared by its texts
    failed       float8 NOT NULL DEFAULT 0,            -- of these, those that brought nothing
    texts        bigint NOT NULL DEFAULT 0,            -- that were sent
    tokens       bigint NOT NULL DEFAULT 0,            -- that were charged
    cost         bigint NOT NULL DEFAULT 0,
    saved_texts  bigint NOT NULL DEFAULT 0,            -- that needed not be sent: cached, or twice in a batch
    saved_tokens bigint NOT NULL DEFAULT 0,            -- what was charged for these when they were
    saved_cost   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, tenant, agent, model)
) WITH (fillfactor = 70);

-- How long requests took, by how many texts they had: up to a power of two.
CREATE TABLE control.latencies (
    model    text NOT NULL,
    texts    int NOT NULL,
    requests bigint NOT NULL,
    seconds  float8 NOT NULL,
    PRIMARY KEY (model, texts)
) WITH (fillfactor = 70);

-- That a share of a budget was reached is said once in each period.
CREATE TABLE control.alerts (
    tenant    text NOT NULL,
    agent     text NOT NULL,
    period    text NOT NULL,
    starts    date NOT NULL,
    percent   int NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    told_at   timestamptz,                             -- when the channel took it
    tries     int NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, agent, period, starts, percent)
);

-- Who spends shares this lock; who sets budgets up or takes them away holds it alone, so that nothing is under way.
CREATE FUNCTION control.spending_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 1835887985 $$;

CREATE FUNCTION control.today() RETURNS date LANGUAGE sql VOLATILE
AS $$ SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION control.starts(period text, day date) RETURNS date LANGUAGE sql IMMUTABLE
AS $$ SELECT date_trunc(period, day::timestamp)::date $$;

CREATE FUNCTION control.ends(period text, starts date) RETURNS timestamptz LANGUAGE sql IMMUTABLE
AS $$ SELECT (starts + ('1 ' || period)::interval) AT TIME ZONE 'UTC' $$;

-- The budgets that groups of (tenant, agent) draw on, in the order in which they are locked.
CREATE FUNCTION control.concerned(tenants text[], agents text[]) RETURNS SETOF control.budgets LANGUAGE sql STABLE AS $$
    SELECT b.* FROM control.budgets b
    WHERE (b.tenant, b.agent) IN (SELECT t, a FROM unnest(tenants, agents) AS g(t, a)
                                  UNION SELECT t, '' FROM unnest(tenants) AS g(t))
    ORDER BY b.tenant, b.agent, b.period
$$;

-- What groups add up to for each budget that they may draw on.
CREATE FUNCTION control.added_up(tenants text[], agents text[], tokens bigint[])
RETURNS TABLE (tenant text, agent text, tokens numeric) LANGUAGE sql IMMUTABLE AS $$
    SELECT g.t, k.a, sum(g.n)
    FROM unnest(tenants, agents, tokens) AS g(t, a, n) CROSS JOIN LATERAL (SELECT '' UNION SELECT g.a) AS k(a)
    GROUP BY g.t, k.a
$$;

-- A part of others: the account of a budget for the period that a day lies in, with what was used and is under way in it.
CREATE FUNCTION control.begin_period(of_ control.budgets, day date) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO control.spending (tenant, agent, period, starts, limit_micro, settled, reserved)
    SELECT of_.tenant, of_.agent, of_.period, b.began, of_.limit_micro,
           (SELECT coalesce(sum(u.cost), 0) FROM control.usage u
            WHERE u.tenant = of_.tenant AND of_.agent IN ('', u.agent) AND u.day >= b.began),
           (SELECT coalesce(sum(g.k * r.price), 0)
            FROM control.reservations r CROSS JOIN unnest(r.tenants, r.agents, r.tokens) AS g(t, a, k)
            WHERE g.t = of_.tenant AND of_.agent IN ('', g.a) AND r.day >= b.began)
    FROM control.starts(of_.period, begin_period.day) AS b(began)
    ON CONFLICT (tenant, agent, period, starts) DO UPDATE SET limit_micro = EXCLUDED.limit_micro
$$;

-- Set aside what a call may cost, for each group (tenant, agent) whose budgets allow it; one row for each group.
-- What is refused comes with the tokens that there would be room for, whether there will be more when calls
-- under way are settled, and when the budgets that are in the way begin anew. No price: refused where there is a budget.
CREATE FUNCTION control.reserve(reservation uuid, called text, tenants text[], agents text[], tokens bigint[], lives_s float8)
RETURNS TABLE (place int, granted boolean, budgeted boolean, price bigint, room bigint, soon boolean, resets_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    today date;
    asked record;
    found_ record;
    cost bigint;
    given int[];
    with_budgets text[];
    budgets int;
    begun int;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(control.spending_lock());
    today := control.today();
    SELECT p.micro_per_million INTO reserve.price FROM control.prices p WHERE p.model = called;
    with_budgets := ARRAY(SELECT DISTINCT b.tenant FROM control.budgets b WHERE b.tenant = ANY(tenants));
    SELECT count(*), count(s.starts) INTO budgets, begun
    FROM control.concerned(tenants, agents) b
    LEFT JOIN control.spending s ON s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                                    AND s.starts = control.starts(b.period, today)
    WHERE with_budgets <> '{}';
    IF begun < budgets THEN  -- one after the other, or those who begin several would wait for each other
        PERFORM pg_advisory_xact_lock(control.spending_lock() + 1);
        PERFORM control.begin_period(b, today) FROM control.concerned(tenants, agents) b;
    END IF;
    IF budgets > 0 THEN
        PERFORM FROM control.spending s JOIN control.concerned(tenants, agents) b USING (tenant, agent, period)
        WHERE s.starts = control.starts(s.period, today)
        ORDER BY s.tenant, s.agent, s.period FOR UPDATE OF s;
    END IF;

    IF budgets = 0 THEN
        given := ARRAY(SELECT n FROM generate_subscripts(tenants, 1) AS n);
        RETURN QUERY SELECT n - 1, true, tenants[n] = ANY(with_budgets), reserve.price,
                            NULL::bigint, NULL::boolean, NULL::timestamptz
                     FROM generate_subscripts(tenants, 1) AS n;
    ELSIF reserve.price IS NOT NULL AND NOT EXISTS (
        SELECT FROM control.added_up(tenants, agents, tokens) a
        JOIN control.budgets b USING (tenant, agent) JOIN control.spending s USING (tenant, agent, period)
        WHERE s.starts = control.starts(s.period, today)
          AND s.settled + s.reserved + a.tokens * reserve.price > b.limit_micro * 1000000::numeric)
    THEN  -- the usual case: there is room for all
        UPDATE control.spending s SET reserved = s.reserved + a.tokens * reserve.price
        FROM control.added_up(tenants, agents, tokens) a JOIN control.budgets b USING (tenant, agent)
        WHERE s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
          AND s.starts = control.starts(s.period, today) AND reserve.price > 0;
        given := ARRAY(SELECT n FROM generate_subscripts(tenants, 1) AS n);
        RETURN QUERY SELECT n - 1, true, tenants[n] = ANY(with_budgets), reserve.price,
                            NULL::bigint, NULL::boolean, NULL::timestamptz
                     FROM generate_subscripts(tenants, 1) AS n;
    ELSE
        given := '{}';
        FOR asked IN SELECT g.* FROM unnest(tenants, agents, tokens) WITH ORDINALITY AS g(tenant, agent, tokens, n) LOOP
            cost := asked.tokens * coalesce(reserve.price, 0);
            SELECT count(*) AS budgets,
                   min(b.limit_micro * 1000000 - s.settled - s.reserved) AS room,
                   bool_and(s.settled + cost <= b.limit_micro * 1000000) AS soon,
                   max(control.ends(s.period, s.starts))
                       FILTER (WHERE s.settled + cost > b.limit_micro * 1000000) AS resets_at
            INTO found_
            FROM control.budgets b JOIN control.spending s USING (tenant, agent, period)
            WHERE b.tenant = asked.tenant AND b.agent IN ('', asked.agent) AND s.starts = control.starts(s.period, today);
            place := asked.n - 1;
            budgeted := asked.tenant = ANY(with_budgets);
            granted := found_.budgets = 0 OR (reserve.price IS NOT NULL AND cost <= found_.room);
            room := CASE WHEN NOT granted THEN greatest(0, found_.room) / nullif(reserve.price, 0) END;
            soon := NOT granted AND reserve.price IS NOT NULL AND found_.soon;
            resets_at := CASE WHEN NOT granted THEN found_.resets_at END;
            IF granted THEN
                given := given || asked.n::int;
                UPDATE control.spending s SET reserved = s.reserved + cost
                FROM control.budgets b
                WHERE b.tenant = asked.tenant AND b.agent IN ('', asked.agent)
                  AND s.tenant = b.tenant AND s.agent = b.agent AND s.period = b.period
                  AND s.starts = control.starts(s.period, today) AND cost > 0;
            END IF;
            RETURN NEXT;
        END LOOP;
    END IF;
    IF reserve.price > 0 AND given <> '{}' THEN
        INSERT INTO control.reservations (id, model, price, day, tenants, agents, tokens, expires_at)
        SELECT reservation, called, reserve.price, today, array_agg(g.t), array_agg(g.a), array_agg(g.k),
               clock_timestamp() + make_interval(secs => lives_s)
        FROM unnest(tenants, agents, tokens) WITH ORDINALITY AS g(t, a, k, n) WHERE g.n = ANY(given);
    END IF;
END $$;

-- What a call came to, for each group: it ends the reservation, if there was one, and goes to the usage. False: the
-- reservation is not there any more. It had run out, and is charged and counted already; or this is said twice.
CREATE FUNCTION control.settle(
    reservation uuid, called text, tenants text[], agents text[], requests float8[], failed float8[], texts int[],
    tokens bigint[], saved_texts int[], saved_tokens bigint[], sent int, took_s float8
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    held control.reservations;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(control.spending_lock());
    IF reservation IS NOT NULL THEN
        DELETE FROM control.reservations WHERE id = reservation RETURNING * INTO held;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    ELSE  -- control could not be asked before the call: what it cost is spent all the same
        held.day := control.today();
        SELECT coalesce(max(p.micro_per_million), 0) INTO held.price FROM control.prices p WHERE p.model = called;
        held.tenants := tenants;
        held.agents := agents;
        held.tokens := array_fill(0::bigint, ARRAY[cardinality(tokens)]);
    END IF;
    PERFORM control.spend(held, tenants, agents, tokens);
    INSERT INTO control.usage AS u (day, tenant, agent, model, requests, failed, texts, tokens, cost,
                                    saved_texts, saved_tokens, saved_cost)
    SELECT held.day, g.t, g.a, called, sum(g.r), sum(g.f), sum(g.n), sum(g.k), sum(g.k) * held.price,
           sum(g.sn), sum(g.sk), sum(g.sk) * held.price
    FROM unnest(tenants, agents, requests, failed, texts, tokens, saved_texts, saved_tokens)
         AS g(t, a, r, f, n, k, sn, sk)
    GROUP BY g.t, g.a ORDER BY g.t, g.a
    ON CONFLICT (day, tenant, agent, model) DO UPDATE
    SET requests = u.requests + EXCLUDED.requests, failed = u.failed + EXCLUDED.failed, texts = u.texts + EXCLUDED.texts,
        tokens = u.tokens + EXCLUDED.tokens, cost = u.cost + EXCLUDED.cost,
        saved_texts = u.saved_texts + EXCLUDED.saved_texts, saved_tokens = u.saved_tokens + EXCLUDED.saved_tokens,
        saved_cost = u.saved_cost + EXCLUDED.saved_cost;
    IF took_s IS NOT NULL THEN
        INSERT INTO control.latencies AS l (model, texts, requests, seconds)
        VALUES (called, 2 ^ ceil(log(2, greatest(sent, 1)::numeric)), 1, took_s)
        ON CONFLICT (model, texts) DO UPDATE SET requests = l.requests + 1, seconds = l.seconds + EXCLUDED.seconds;
    END IF;
    RETURN true;
END $$;

-- A part of others: turn what a reservation has set aside into what was charged.
CREATE FUNCTION control.spend(held control.reservations, tenants text[], agents text[], charged bigint[])
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM control.spending s JOIN control.added_up(held.tenants, held.agents, held.tokens) a USING (tenant, agent)
    WHERE s.starts = control.starts(s.period, held.day)
    ORDER BY s.tenant, s.agent, s.period FOR UPDATE OF s;
    UPDATE control.spending s
    SET reserved = greatest(0, s.reserved - a.tokens * held.price), settled = s.settled + coalesce(c.tokens, 0) * held.price
    FROM control.added_up(held.tenants, held.agents, held.tokens) a
    LEFT JOIN control.added_up(spend.tenants, spend.agents, spend.charged) c USING (tenant, agent)
    WHERE s.tenant = a.tenant AND s.agent = a.agent AND s.starts = control.starts(s.period, held.day);
END $$;

-- Charge one reservation that ran out: nobody knows what became of the call. False: there is none.
CREATE FUNCTION control.charge_one() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    held control.reservations;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(control.spending_lock());
    DELETE FROM control.reservations
    WHERE id = (SELECT id FROM control.reservations WHERE expires_at < clock_timestamp() LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING * INTO held;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM control.spend(held, held.tenants, held.agents, held.tokens);
    INSERT INTO control.usage AS u (day, tenant, agent, model, requests, failed, tokens, cost)
    SELECT held.day, g.t, g.a, held.model, sum(1.0 / cardinality(held.tenants)), sum(1.0 / cardinality(held.tenants)),
           sum(g.k), sum(g.k) * held.price
    FROM unnest(held.tenants, held.agents, held.tokens) AS g(t, a, k)
    GROUP BY g.t, g.a ORDER BY g.t, g.a
    ON CONFLICT (day, tenant, agent, model) DO UPDATE
    SET requests = u.requests + EXCLUDED.requests, failed = u.failed + EXCLUDED.failed,
        tokens = u.tokens + EXCLUDED.tokens, cost = u.cost + EXCLUDED.cost;
    RETURN true;
END $$;

-- Set a budget up, or change it; what happens at the limit stays as it was unless it is said. What was spent before in
-- its period counts, and so do calls under way.
CREATE FUNCTION control.set_budget(whose text, who text, every text, most_micro bigint, then_ text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    made control.budgets;
BEGIN
    PERFORM pg_advisory_xact_lock(control.spending_lock());
    INSERT INTO control.budgets (tenant, agent, period, limit_micro, at_limit) VALUES (whose, who, every, most_micro, coalesce(then_, 'defer'))
    ON CONFLICT (tenant, agent, period) DO UPDATE
    SET limit_micro = EXCLUDED.limit_micro, at_limit = coalesce(then_, budgets.at_limit), set_at = now()
    RETURNING * INTO made;
    PERFORM control.begin_period(made, control.today());
END $$;

-- Take a budget away; calls under way are settled all the same. False: there was none.
CREATE FUNCTION control.remove_budget(whose text, who text, every text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(control.spending_lock());
    DELETE FROM control.spending s
    WHERE s.tenant = whose AND s.agent = who AND s.period = every AND s.starts = control.starts(every, control.today());
    DELETE FROM control.budgets b WHERE b.tenant = whose AND b.agent = who AND b.period = every;
    RETURN FOUND;
END $$;
