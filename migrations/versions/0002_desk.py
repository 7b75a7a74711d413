"""The desk: the gateway's role, ticks fenced by epoch, the newest ticks of a symbol, leases, runs of scheduled jobs."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROLES = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'northstar_gateway') THEN
        CREATE ROLE northstar_gateway NOLOGIN;
    END IF;
    IF NOT pg_has_role('northstar_gateway', 'USAGE') THEN
        GRANT northstar_gateway TO CURRENT_USER;
    END IF;
END $$;
--
GRANT northstar_run_writer TO northstar_gateway;
--
ALTER ROLE northstar_gateway LOGIN;
--
ALTER ROLE northstar_gateway SET statement_timeout = '60s';
--
ALTER ROLE northstar_gateway SET idle_in_transaction_session_timeout = '60s';
--
GRANT USAGE ON SCHEMA northstar TO northstar_gateway;
--
SET LOCAL ROLE northstar_owner
"""

# A gateway that was replaced must not store ticks either: their numbers may be its successor's.
TICKS = """
ALTER TABLE northstar.tick_block ADD COLUMN epoch integer NOT NULL DEFAULT 0;
--
ALTER TABLE northstar.stream_head ADD COLUMN tick_seq bigint NOT NULL DEFAULT 0;
--
UPDATE northstar.stream_head h SET tick_seq = t.last
  FROM (SELECT stream, max(first_seq + n - 1) AS last FROM northstar.tick_block GROUP BY stream) t
 WHERE t.stream = h.stream;
--
COMMENT ON TABLE northstar.stream_head IS
    'The last event of each stream, the last tick stored, the epoch that may write; only the append triggers change it.';
--
CREATE FUNCTION northstar.check_ticks() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head  northstar.stream_head;
    batch record;
    wrong record;
BEGIN
    SELECT min(stream) AS stream, max(stream) AS other, min(epoch) AS epoch, max(epoch) AS other_epoch,
           count(*) AS blocks, max(first_seq + n - 1) AS last INTO batch FROM added;
    IF batch.blocks = 0 THEN
        RETURN NULL;
    END IF;
    IF batch.stream <> batch.other OR batch.epoch <> batch.other_epoch THEN
        RAISE EXCEPTION 'one batch holds ticks of two streams or epochs, % and %', batch.stream, batch.other
            USING ERRCODE = 'NS002';
    END IF;
    SELECT * INTO head FROM northstar.stream_head WHERE stream = batch.stream FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no run has stream %', batch.stream USING ERRCODE = 'NS002';
    END IF;
    IF head.epoch <> batch.epoch THEN
        RAISE EXCEPTION 'stream % ticks to seq %: written in epoch %, but epoch % has begun',
            batch.stream, batch.last, batch.epoch, head.epoch USING ERRCODE = 'NS003';
    END IF;
    SELECT row.first_seq, row.before_seq INTO wrong
      FROM (SELECT first_seq, lag(first_seq + n - 1, 1, head.tick_seq) OVER as_they_came AS before_seq
              FROM added WINDOW as_they_came AS (ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) AS row
     WHERE row.first_seq <= row.before_seq
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'stream % ticks from seq %: do not follow the tick of seq %',
            batch.stream, wrong.first_seq, wrong.before_seq USING ERRCODE = 'NS002';
    END IF;
    UPDATE northstar.stream_head SET tick_seq = batch.last WHERE stream = batch.stream;
    RETURN NULL;
END $$;
--
CREATE TRIGGER check_ticks AFTER INSERT ON northstar.tick_block REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION northstar.check_ticks();
--
CREATE TABLE northstar.recent_ticks (
    stream    integer  NOT NULL,
    symbol    text     NOT NULL,
    slot      smallint NOT NULL,
    first_seq bigint   NOT NULL,
    last_seq  bigint   NOT NULL,
    payload   bytea    NOT NULL,
    PRIMARY KEY (stream, symbol, slot)
) WITH (fillfactor = 50);
--
COMMENT ON TABLE northstar.recent_ticks IS
    'The newest ticks of each symbol once more, a ring of slots, so that they are read without searching tick_block. '
    'A projection: it may be emptied. The row of no symbol says up to which number the ring is complete.';
--
CREATE VIEW northstar.newest_ticks AS
SELECT r.run_id, t.* FROM northstar.recent_ticks t JOIN northstar.run r USING (stream);
--
CREATE VIEW northstar.tick_partitions AS
SELECT substring(c.relname FROM '[0-9]+$')::bigint * 16777216 AS first_seq,
       (substring(c.relname FROM '[0-9]+$')::bigint + 1) * 16777216 - 1 AS last_seq
  FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'northstar.tick_block'::regclass;
--
COMMENT ON VIEW northstar.tick_partitions IS 'The ranges of numbers whose ticks are kept; retention drops whole ranges.'
"""

JOBS = """
CREATE TABLE northstar.lease (
    strategy text        NOT NULL,
    account  text        NOT NULL,
    holder   text        NOT NULL CHECK (holder <> ''),
    token    bigint      NOT NULL DEFAULT 1,
    taken    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires  timestamptz NOT NULL,
    PRIMARY KEY (strategy, account)
) WITH (fillfactor = 50);
--
COMMENT ON TABLE northstar.lease IS
    'Who runs a strategy in an account, until when by this clock; the token grows each time the holder changes.';
--
CREATE TABLE northstar.job_run (
    job      text        NOT NULL CHECK (job <> ''),
    planned  bigint      NOT NULL,
    attempt  integer     NOT NULL DEFAULT 1,
    holder   text        NOT NULL DEFAULT '',
    started  bigint,
    finished bigint,
    outcome  text        NOT NULL DEFAULT 'running'
                         CHECK (outcome IN ('running', 'completed', 'stopped', 'failed', 'missed')),
    detail   text        NOT NULL DEFAULT '',
    folder   text        NOT NULL DEFAULT '',
    recorded timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job, planned),
    CHECK ((outcome = 'running') = (finished IS NULL)),
    CHECK ((outcome = 'missed') = (started IS NULL))
);
--
COMMENT ON TABLE northstar.job_run IS
    'Each planned run of a scheduled job, once. Times are the desk''s, ns UTC; recorded is this server''s.';
--
CREATE INDEX job_run_by_time ON northstar.job_run (planned DESC)
"""

GRANTS = """
REVOKE ALL ON FUNCTION northstar.check_ticks FROM PUBLIC;
--
GRANT EXECUTE ON FUNCTION northstar.take_epoch TO northstar_gateway;
--
GRANT SELECT, INSERT, UPDATE, DELETE ON northstar.recent_ticks TO northstar_gateway;
--
GRANT SELECT, INSERT, UPDATE ON northstar.lease, northstar.job_run TO northstar_run_writer;
--
GRANT SELECT ON northstar.newest_ticks, northstar.tick_partitions, northstar.lease, northstar.job_run
   TO northstar_reader, northstar_run_writer;
--
RESET ROLE
"""


def upgrade() -> None:
    """Add what a desk needs; backtests are stored as before."""
    for part in (ROLES, TICKS, JOBS, GRANTS):
        for statement in part.split("\n--\n"):
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Refuse: an audit log is not taken apart."""
    raise NotImplementedError("an audit log is not taken apart; drop the database if you mean it")
