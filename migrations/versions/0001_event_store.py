"""The event store: runs, their append-only chained events, intent keys, ticks in blocks, typed projections, roles.

Revision identifiers are the number in front of the file's name: the newest can be told without importing Alembic.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['northstar_owner', 'northstar_run_writer', 'northstar_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
        IF NOT pg_has_role(wanted, 'USAGE') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
    END LOOP;
END $$;
--
ALTER ROLE northstar_run_writer LOGIN;
--
ALTER ROLE northstar_reader LOGIN;
--
ALTER ROLE northstar_run_writer SET statement_timeout = '120s';
--
ALTER ROLE northstar_run_writer SET idle_in_transaction_session_timeout = '60s';
--
ALTER ROLE northstar_reader SET statement_timeout = '120s';
--
ALTER ROLE northstar_reader SET idle_in_transaction_session_timeout = '60s';
--
ALTER ROLE northstar_reader SET default_transaction_read_only = on;
--
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO northstar_owner', current_database()); END $$;
--
ALTER SCHEMA northstar OWNER TO northstar_owner;
--
DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM northstar_owner', current_database()); END $$;
--
GRANT USAGE ON SCHEMA northstar TO northstar_run_writer, northstar_reader;
--
SET LOCAL ROLE northstar_owner
"""

RUNS = """
CREATE TABLE northstar.run (
    stream          integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id          text        NOT NULL UNIQUE CHECK (run_id <> ''),
    kind            text        NOT NULL CHECK (kind IN ('backtest', 'paper', 'shadow', 'live', 'desk', 'replay')),
    status          text        NOT NULL DEFAULT 'running'
                                CHECK (status IN ('running', 'completed', 'stopped', 'failed')),
    started         timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished        timestamptz,
    notebook        text        NOT NULL DEFAULT '',
    notebook_sha256 text        NOT NULL DEFAULT '',
    parameters      jsonb       NOT NULL DEFAULT '{}',
    provenance      jsonb       NOT NULL DEFAULT '{}',
    summary         jsonb       NOT NULL DEFAULT '{}',
    CHECK ((status = 'running') = (finished IS NULL))
);
--
COMMENT ON TABLE northstar.run IS
    'Every stream of events: a backtest run, or the desk. Wall-clock lives here, never in events.';
--
CREATE TABLE northstar.stream_head (
    stream integer PRIMARY KEY REFERENCES northstar.run,
    epoch  integer NOT NULL DEFAULT 0,
    seq    bigint  NOT NULL DEFAULT 0,
    events bigint  NOT NULL DEFAULT 0,
    hash   bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
) WITH (fillfactor = 20);
--
COMMENT ON TABLE northstar.stream_head IS
    'The last event of each stream and the epoch that may write; only the append trigger changes it.';
--
CREATE FUNCTION northstar.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the store is append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'NS001';
END $$;
--
CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON northstar.run
FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change();
--
CREATE TRIGGER refuse_removal BEFORE DELETE OR TRUNCATE ON northstar.stream_head
FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change();
--
CREATE FUNCTION northstar.open_stream() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO northstar.stream_head (stream) VALUES (NEW.stream);
    RETURN NULL;
END $$;
--
CREATE TRIGGER open_stream AFTER INSERT ON northstar.run FOR EACH ROW EXECUTE FUNCTION northstar.open_stream();
--
CREATE FUNCTION northstar.take_epoch(of_stream integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE northstar.stream_head SET epoch = epoch + 1 WHERE stream = of_stream RETURNING epoch
$$;
--
COMMENT ON FUNCTION northstar.take_epoch IS
    'Fence off every earlier writer of a stream; waits for a batch of theirs that is under way.'
"""

EVENTS = """
CREATE TABLE northstar.event (
    stream   integer NOT NULL,
    epoch    integer NOT NULL,
    seq      bigint  NOT NULL,
    ts       bigint  NOT NULL,
    cause    bigint  NOT NULL,
    kind     text    NOT NULL,
    strategy text,
    account  text,
    order_id text,
    payload  bytea   NOT NULL,
    hash     bytea   NOT NULL,
    PRIMARY KEY (stream, seq)
) PARTITION BY RANGE (seq);
--
COMMENT ON TABLE northstar.event IS
    'Append-only. hash = sha256(previous hash || "seq epoch ts cause " || payload); payload is the event''s JSON.';
--
CREATE TABLE northstar.tick_block (
    stream    integer  NOT NULL,
    n         integer  NOT NULL CHECK (n > 0),
    first_seq bigint   NOT NULL,
    last_ts   bigint   NOT NULL,
    symbols   text[]   NOT NULL,
    payload   bytea    NOT NULL,
    PRIMARY KEY (stream, first_seq)
) PARTITION BY RANGE (first_seq);
--
COMMENT ON TABLE northstar.tick_block IS
    'Market events consumed, n in a row of consecutive numbers, msgpack; old partitions may be dropped.';
--
CREATE TABLE northstar.intent_key (
    stream   integer NOT NULL,
    strategy text    NOT NULL,
    order_id text    NOT NULL,
    seq      bigint  NOT NULL,
    PRIMARY KEY (stream, strategy, order_id)
);
--
COMMENT ON TABLE northstar.intent_key IS
    'Intents that were accepted, written by the append trigger: a duplicate order is impossible by constraint.';
--
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON northstar.event
FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change();
--
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON northstar.event
FOR EACH ROW EXECUTE FUNCTION northstar.refuse_change();
--
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON northstar.tick_block
FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change();
--
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON northstar.tick_block
FOR EACH ROW EXECUTE FUNCTION northstar.refuse_change();
--
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON northstar.intent_key
FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change();
--
CREATE FUNCTION northstar.ensure_partitions(up_to bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    span constant bigint := 16777216;  -- 2^24 numbers a partition
    parent text;
    part   text;
    low    bigint;
BEGIN
    IF up_to < 0 OR up_to > 1e12 THEN
        RAISE EXCEPTION 'no partition for seq %', up_to USING ERRCODE = 'NS002';
    END IF;
    FOREACH parent IN ARRAY ARRAY['event', 'tick_block'] LOOP
        low := up_to / span * span;
        part := format('%s_%s', parent, lpad((low / span)::text, 5, '0'));
        IF to_regclass('northstar.' || part) IS NULL THEN
            PERFORM pg_advisory_xact_lock(1853190260, hashtext(part));
            IF to_regclass('northstar.' || part) IS NULL THEN
                -- attached, not created in place: that would lock out every reader and writer of the table
                EXECUTE format('CREATE TABLE northstar.%I (LIKE northstar.%I INCLUDING ALL)', part, parent);
                EXECUTE format('ALTER TABLE northstar.%I ATTACH PARTITION northstar.%I FOR VALUES FROM (%s) TO (%s)',
                               parent, part, low, low + span);
                EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON northstar.%I '
                               'FOR EACH STATEMENT EXECUTE FUNCTION northstar.refuse_change()', part);
            END IF;
        END IF;
    END LOOP;
    RETURN low + span;
END $$;
--
COMMENT ON FUNCTION northstar.ensure_partitions IS
    'Make the partition that holds a number, if it is not there; returns the first number beyond it.';
--
SELECT northstar.ensure_partitions(0)
"""

# The chain is checked over the batch as a set: each row against the row before it, the first against the head.
# ``cause`` may not point forward; gaps are consumed tape rows, which only the auditor can match with their TapeRead.
APPEND = """
CREATE FUNCTION northstar.check_append() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head  northstar.stream_head;
    batch record;
    wrong record;
BEGIN
    SELECT min(stream) AS stream, max(stream) AS other, count(*) AS n, max(seq) AS last INTO batch FROM added;
    IF batch.n = 0 THEN
        RETURN NULL;
    END IF;
    IF batch.stream <> batch.other THEN
        RAISE EXCEPTION 'one batch holds events of two streams, % and %', batch.stream, batch.other
            USING ERRCODE = 'NS002';
    END IF;
    -- locked until the commit: a second writer waits here, and a new epoch waits for us
    SELECT * INTO head FROM northstar.stream_head WHERE stream = batch.stream FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no run has stream %', batch.stream USING ERRCODE = 'NS002';
    END IF;

    -- The rows are read as they came, not sorted: a batch in another order is refused as out of order.
    SELECT row.seq, row.epoch, row.before_seq,
           CASE WHEN row.epoch <> head.epoch THEN 'epoch'
                WHEN row.seq <= row.before_seq THEN 'seq'
                WHEN row.cause < 0 OR row.cause >= row.seq THEN 'cause'
                WHEN NOT row.kind_fits THEN 'kind'
                ELSE 'hash' END AS what
      INTO wrong
      FROM (SELECT seq, epoch, cause, hash,
                   lag(seq, 1, head.seq) OVER as_they_came AS before_seq,
                   substring(payload FOR octet_length(kind) + 10) = ('{"type":"' || kind || '"')::bytea AS kind_fits,
                   sha256(lag(hash, 1, head.hash) OVER as_they_came
                          || (seq || ' ' || epoch || ' ' || ts || ' ' || cause || ' ')::bytea || payload) AS expected
              FROM added WINDOW as_they_came AS (ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) AS row
     WHERE row.hash <> row.expected OR row.epoch <> head.epoch OR row.seq <= row.before_seq
        OR row.cause < 0 OR row.cause >= row.seq OR NOT row.kind_fits
     LIMIT 1;
    IF FOUND THEN
        CASE wrong.what
        WHEN 'epoch' THEN
            RAISE EXCEPTION 'stream % seq %: written in epoch %, but epoch % has begun',
                batch.stream, wrong.seq, wrong.epoch, head.epoch USING ERRCODE = 'NS003';
        WHEN 'seq' THEN
            RAISE EXCEPTION 'stream % seq %: does not follow seq %', batch.stream, wrong.seq, wrong.before_seq
                USING ERRCODE = 'NS002';
        WHEN 'hash' THEN
            RAISE EXCEPTION 'stream % seq %: its hash does not follow from seq %',
                batch.stream, wrong.seq, wrong.before_seq USING ERRCODE = 'NS004';
        ELSE
            RAISE EXCEPTION 'stream % seq %: its % is wrong', batch.stream, wrong.seq, wrong.what
                USING ERRCODE = 'NS002';
        END CASE;
    END IF;

    INSERT INTO northstar.intent_key (stream, strategy, order_id, seq)
    SELECT stream, strategy, order_id, seq FROM added WHERE kind = 'OrderSubmitted';

    UPDATE northstar.stream_head
       SET seq = batch.last, events = events + batch.n,
           hash = (SELECT hash FROM added WHERE seq = batch.last)
     WHERE stream = batch.stream;
    RETURN NULL;
END $$;
--
CREATE TRIGGER check_append AFTER INSERT ON northstar.event REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION northstar.check_append()
"""

PROJECTIONS = """
CREATE TABLE northstar.order_state (
    stream        integer NOT NULL,
    order_id      text    NOT NULL,
    strategy      text    NOT NULL,
    account       text    NOT NULL,
    symbol        text    NOT NULL,
    side          text    NOT NULL,
    order_type    text    NOT NULL,
    tif           text    NOT NULL,
    parent        text    NOT NULL,
    qty           numeric NOT NULL,
    limit_price   numeric,
    stop_price    numeric,
    status        text    NOT NULL,
    cum_qty       numeric NOT NULL,
    leaves_qty    numeric NOT NULL,
    reason        text    NOT NULL,
    submitted_seq bigint  NOT NULL,
    submitted_ts  bigint  NOT NULL,
    last_seq      bigint  NOT NULL,
    last_ts       bigint  NOT NULL,
    PRIMARY KEY (stream, order_id)
) WITH (fillfactor = 85);
--
CREATE TABLE northstar.fill (
    stream   integer NOT NULL,
    seq      bigint  NOT NULL,
    ts       bigint  NOT NULL,
    order_id text    NOT NULL,
    exec_id  text    NOT NULL,
    strategy text    NOT NULL,
    account  text    NOT NULL,
    symbol   text    NOT NULL,
    side     text    NOT NULL,
    qty      numeric NOT NULL,
    price    numeric NOT NULL,
    fees     numeric NOT NULL,
    late     boolean NOT NULL,
    PRIMARY KEY (stream, seq)
);
--
CREATE TABLE northstar.position (
    stream   integer NOT NULL,
    account  text    NOT NULL,
    strategy text    NOT NULL,
    symbol   text    NOT NULL,
    qty      numeric NOT NULL,
    cost     numeric NOT NULL,
    realized numeric NOT NULL,
    fees     numeric NOT NULL,
    last_seq bigint  NOT NULL,
    PRIMARY KEY (stream, account, strategy, symbol)
) WITH (fillfactor = 50);
--
COMMENT ON TABLE northstar.order_state IS
    'Each order as its last event left it. A projection of event, written in the same transaction.';
--
COMMENT ON TABLE northstar.fill IS 'Every OrderFilled, typed. A projection of event, written in the same transaction.';
--
COMMENT ON TABLE northstar.position IS
    'Holdings of each strategy''s book, first in first out. A projection of event, written in the same transaction.'
"""

VIEWS = """
CREATE FUNCTION northstar.time_of(ns bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_timestamp(ns / 1000000000) + (ns % 1000000000 / 1000) * interval '1 microsecond'
$$;
--
CREATE VIEW northstar.runs AS
SELECT r.*, h.epoch, h.seq AS head_seq, h.events, h.hash AS head_hash,
       EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 1853190260
                  AND l.objid = r.stream::oid AND l.objsubid = 2 AND l.granted) AS writing
  FROM northstar.run r JOIN northstar.stream_head h USING (stream);
--
CREATE VIEW northstar.events AS
SELECT r.run_id, e.* FROM northstar.event e JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.orders AS
SELECT r.run_id, o.*, northstar.time_of(o.submitted_ts) AS submitted, northstar.time_of(o.last_ts) AS changed
  FROM northstar.order_state o JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.fills AS
SELECT r.run_id, f.*, northstar.time_of(f.ts) AS filled FROM northstar.fill f JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.positions AS
SELECT r.run_id, p.* FROM northstar.position p JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.ticks AS
SELECT r.run_id, t.* FROM northstar.tick_block t JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.denials AS
SELECT r.run_id, e.stream, e.seq, e.ts, northstar.time_of(e.ts) AS denied, e.strategy, e.account, e.order_id,
       convert_from(e.payload, 'UTF8')::jsonb ->> 'symbol' AS symbol,
       convert_from(e.payload, 'UTF8')::jsonb ->> 'reason' AS reason,
       convert_from(e.payload, 'UTF8')::jsonb ->> 'detail' AS detail
  FROM northstar.event e JOIN northstar.run r USING (stream) WHERE e.kind = 'OrderDenied'
"""

GRANTS = """
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA northstar FROM PUBLIC;
--
GRANT EXECUTE ON FUNCTION northstar.ensure_partitions TO northstar_run_writer;
--
GRANT EXECUTE ON FUNCTION northstar.time_of TO northstar_run_writer, northstar_reader;
--
GRANT SELECT ON northstar.runs, northstar.events, northstar.orders, northstar.fills, northstar.positions,
      northstar.ticks, northstar.denials TO northstar_reader, northstar_run_writer;
--
GRANT SELECT ON northstar.run, northstar.stream_head, northstar.event, northstar.intent_key, northstar.order_state,
      northstar.fill, northstar.position, northstar.tick_block TO northstar_run_writer;
--
GRANT INSERT (run_id, kind, notebook, notebook_sha256, parameters, provenance) ON northstar.run TO northstar_run_writer;
--
GRANT UPDATE (status, finished, summary, provenance) ON northstar.run TO northstar_run_writer;
--
GRANT INSERT ON northstar.event, northstar.tick_block, northstar.fill TO northstar_run_writer;
--
GRANT INSERT, UPDATE ON northstar.order_state, northstar.position TO northstar_run_writer;
--
RESET ROLE
"""


def upgrade() -> None:
    """Create everything as ``northstar_owner``, who cannot log in."""
    for part in (ROLES, RUNS, EVENTS, APPEND, PROJECTIONS, VIEWS, GRANTS):
        for statement in part.split("\n--\n"):
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Refuse: an audit log is not taken apart."""
    raise NotImplementedError("an audit log is not taken apart; drop the database if you mean it")
