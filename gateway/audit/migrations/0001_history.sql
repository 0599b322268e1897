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
    start      bigint NOT NULL DEFAULT 0,   -- so many of the oldest were removed by drop_month
    start_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);

-- Tables of one month. SECURITY DEFINER: who writes events owns no table and could not create one.
CREATE FUNCTION gateway.ensure_month(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first  date := date_trunc('month', day);
    parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gateway.months'));
    FOREACH parent IN ARRAY ARRAY['session_events', 'login_events'] LOOP
        IF to_regclass(format('gateway.%I', parent || to_char(first, '"_"YYYY"_"MM'))) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE gateway.%I PARTITION OF gateway.%I FOR VALUES FROM (%L) TO (%L)',
                parent || to_char(first, '"_"YYYY"_"MM'), parent,
                first::timestamp AT TIME ZONE 'UTC',
                (first + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END $$;

-- Removes the tables of the oldest month if it ended before `before`; returns where the chains of its
-- partitions now begin. Whoever may call it can remove old rows, and only whole months of them.
CREATE FUNCTION gateway.drop_oldest_month(before timestamptz)
RETURNS TABLE (of_partition text, new_start bigint, new_start_hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    oldest text;
    ends   timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gateway.months'));
    SELECT max(c.relname) INTO oldest FROM (
        SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent = 'gateway.session_events'::regclass ORDER BY relname LIMIT 1) c;
    ends := (to_date(right(oldest, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC';
    IF oldest IS NULL OR ends > before THEN
        RETURN;
    END IF;
    -- No chain grows meanwhile.
    LOCK TABLE gateway.chains IN EXCLUSIVE MODE;
    RETURN QUERY EXECUTE format(
        'UPDATE gateway.chains c SET start = last.seq, start_hash = last.hash
         FROM (SELECT DISTINCT ON (partition) partition, seq, hash FROM gateway.%I
               ORDER BY partition, seq DESC) last
         WHERE c.partition = last.partition AND c.start < last.seq
         RETURNING c.partition, c.start, c.start_hash', oldest);
    EXECUTE format('DROP TABLE gateway.%I', oldest);
    EXECUTE format('DROP TABLE IF EXISTS gateway.%I', replace(oldest, 'session_', 'login_'));
END $$;

REVOKE ALL ON FUNCTION gateway.ensure_month(date) FROM PUBLIC;
REVOKE ALL ON FUNCTION gateway.drop_oldest_month(timestamptz) FROM PUBLIC;
