-- Every event is a row of session_events. A sign-in is also one of login_events, with its facts in
-- columns of their own. recorded_at and number are the id of the event in its partition's outbox: a
-- repeat bears the same, so the primary key lets no event in twice.

CREATE TABLE gateway.session_events (
    partition   text COLLATE "C" NOT NULL,
    recorded_at timestamptz NOT NULL,
    number      bigint NOT NULL,
    seq         bigint NOT NULL,            -- its place in the partition's chain, from 1 on
    type        text NOT NULL,
    session_id  text NOT NULL,
    user_id     text NOT NULL,
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    request_id  text NOT NULL,
    details     json NOT NULL,              -- not jsonb: the hash is of the text
    hash        bytea NOT NULL,             -- SHA-256 of the one before and of this row
    PRIMARY KEY (partition, recorded_at, number)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX ON gateway.session_events (partition, seq);
CREATE INDEX ON gateway.session_events (recorded_at, number, partition);
CREATE INDEX ON gateway.session_events (user_id, recorded_at);
CREATE INDEX ON gateway.session_events (session_id, recorded_at);

CREATE TABLE gateway.login_events (
    partition   text COLLATE "C" NOT NULL,
    recorded_at timestamptz NOT NULL,
    number      bigint NOT NULL,
    session_id  text NOT NULL,
    user_id     text NOT NULL,
    at          timestamptz NOT NULL,
    email       text NOT NULL,
    ip          text NOT NULL,
    country     text NOT NULL,
    city        text NOT NULL,
    user_agent  text NOT NULL,
    device_id   text NOT NULL,
    device_name text NOT NULL,
    device_type text NOT NULL,
    PRIMARY KEY (partition, recorded_at, number)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX ON gateway.login_events (user_id, recorded_at);
CREATE INDEX ON gateway.login_events (ip, recorded_at);

-- One row for each partition's chain. It is also the lock under which the chain grows.
CREATE TABLE gateway.chains (
    partition  text COLLATE "C" PRIMARY KEY,
    length     bigint NOT NULL DEFAULT 0,
    hash       bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    start      bigint NOT NULL DEFAULT 0,   -- so many of the oldest were removed on purpose
    start_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);

-- Tables of one month. SECURITY DEFINER: who writes events owns no table and could not create one.
-- They are attached when they are complete, for which no reader has to be waited for.
-- Later months than the next three are refused by an error of class 22: the event is to blame, or
-- Redis' clock.
CREATE FUNCTION gateway.ensure_month(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, MDY' SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    first  timestamptz := date_trunc('month', day);
    parent text;
    child  text;
BEGIN
    IF (day BETWEEN '1970-01-01' AND now() + interval '3 months') IS NOT TRUE THEN
        RAISE EXCEPTION 'no event is of %', day USING ERRCODE = 'datetime_field_overflow';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('gateway.months'));
    FOREACH parent IN ARRAY ARRAY['session_events', 'login_events'] LOOP
        child := parent || to_char(first, '"_"YYYY"_"MM');
        IF to_regclass(format('gateway.%I', child)) IS NULL THEN
            EXECUTE format('CREATE TABLE gateway.%I (LIKE gateway.%I INCLUDING ALL)', child, parent);
            EXECUTE format(
                'ALTER TABLE gateway.%I ATTACH PARTITION gateway.%I FOR VALUES FROM (%L) TO (%L)',
                parent, child, first, first + interval '1 month');
        END IF;
    END LOOP;
END $$;

-- Tells whether all that was recorded before `day` is the beginning of what is left of its chains:
-- it has each place from `start` on once, and none behind that of a row which would stay.
CREATE FUNCTION gateway.is_beginning(day timestamptz) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM (
            SELECT partition, min(seq) AS lowest, max(seq) AS highest,
                   count(*) AS events, count(DISTINCT seq) AS places
            FROM gateway.session_events WHERE recorded_at < day GROUP BY partition) gone
        LEFT JOIN gateway.chains c USING (partition)
        WHERE (lowest, highest, events) IS DISTINCT FROM (c.start + 1, c.start + places, places)
        OR highest > c.length
        OR EXISTS (SELECT FROM gateway.session_events e
                   WHERE e.partition = gone.partition AND recorded_at >= day AND seq <= highest))
$$;

-- Removes the months that ended before `before`, and at least 31 days ago, and has the chains begin
-- behind them. What would tear a chain waits: a month with a late event, until those between are
-- due too. Whoever may call it can remove old rows, and only whole months of them.
CREATE FUNCTION gateway.drop_old_months(before timestamptz, OUT dropped text[], OUT waiting text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, MDY' SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    month text;
    day   timestamptz;
BEGIN
    dropped := '{}';
    waiting := '{}';
    IF NOT pg_try_advisory_xact_lock(hashtext('gateway.retention')) THEN
        RETURN;  -- another replica is about it
    END IF;
    SELECT coalesce(array_agg(name ORDER BY name), '{}') INTO dropped FROM (
        SELECT right(relname, 7) AS name FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent = 'gateway.session_events'::regclass) months
    WHERE to_date(name, 'YYYY_MM') + interval '1 month' <= least(before, now() - interval '31 days');
    FOREACH month IN ARRAY dropped LOOP  -- late events wait; nobody else does
        EXECUTE format('LOCK TABLE gateway.%I IN SHARE MODE', 'session_events_' || month);
    END LOOP;
    WHILE dropped <> '{}' LOOP
        month := dropped[cardinality(dropped)];
        day := to_date(month, 'YYYY_MM') + interval '1 month';
        EXIT WHEN gateway.is_beginning(day);
        dropped := dropped[:cardinality(dropped) - 1];
        waiting := month || waiting;
    END LOOP;
    IF dropped = '{}' THEN
        RETURN;
    END IF;
    UPDATE gateway.chains c SET start = last.seq, start_hash = last.hash
    FROM gateway.chains each CROSS JOIN LATERAL (
        SELECT seq, hash FROM gateway.session_events e
        WHERE e.partition = each.partition AND recorded_at < day ORDER BY seq DESC LIMIT 1) last
    WHERE c.partition = each.partition;
    FOREACH month IN ARRAY dropped LOOP
        EXECUTE format('DROP TABLE gateway.%I', 'session_events_' || month);
        EXECUTE format('DROP TABLE IF EXISTS gateway.%I', 'login_events_' || month);
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION gateway.ensure_month(date) FROM PUBLIC;
REVOKE ALL ON FUNCTION gateway.is_beginning(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION gateway.drop_old_months(timestamptz) FROM PUBLIC;
