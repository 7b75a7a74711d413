-- create_database --
-- The embedded server's database, on a new cluster.
CREATE DATABASE northstar;

-- durability --
-- The settings without which an acknowledged commit may be lost, and the server's version.
SELECT name, setting FROM pg_settings
 WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'server_version_num');

-- has_schema --
-- Whether a migration was ever applied.
SELECT to_regclass('northstar.alembic_version') IS NOT NULL;

-- revision --
-- The revision of the schema.
SELECT version_num FROM northstar.alembic_version;

-- register_run --
-- Open a stream for a run; returns its number. $1 run_id, $2 kind, $3 notebook, $4 notebook_sha256, $5 parameters, $6 provenance
INSERT INTO northstar.run (run_id, kind, notebook, notebook_sha256, parameters, provenance)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb) RETURNING stream;

-- finish_run --
-- Say how a run ended. $1 stream, $2 status, $3 summary
UPDATE northstar.run SET status = $2, finished = clock_timestamp(), summary = $3::jsonb WHERE stream = $1;

-- lock_stream --
-- Be the one writer of a stream for as long as this session lasts; false if another session is. $1 stream
SELECT pg_try_advisory_lock(1853190260, $1);

-- head --
-- A stream's last event and the epoch that may write. $1 stream
SELECT seq, hash, epoch, events FROM northstar.stream_head WHERE stream = $1;

-- stream_of --
-- A run's stream, to write on. $1 run_id
SELECT stream FROM northstar.run WHERE run_id = $1;

-- ensure_partitions --
-- Make the partition that holds a number; returns the first number beyond it. $1 seq
SELECT northstar.ensure_partitions($1);

-- make_changes --
-- Where changed orders and positions arrive by COPY before they are merged, and memory to check a batch; this session's own.
SET work_mem = '64MB';
CREATE TEMPORARY TABLE IF NOT EXISTS order_change (LIKE northstar.order_state) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS position_change (LIKE northstar.position) ON COMMIT DELETE ROWS;

-- merge_orders --
-- Bring orders up to date with what arrived in order_change.
UPDATE northstar.order_state o
   SET qty = c.qty, limit_price = c.limit_price, stop_price = c.stop_price, status = c.status, cum_qty = c.cum_qty,
       leaves_qty = c.leaves_qty, reason = c.reason, last_seq = c.last_seq, last_ts = c.last_ts
  FROM pg_temp.order_change c
 WHERE o.stream = c.stream AND o.order_id = c.order_id;

-- merge_positions --
-- Bring positions up to date with what arrived in position_change.
INSERT INTO northstar.position AS p SELECT * FROM pg_temp.position_change
    ON CONFLICT (stream, account, strategy, symbol) DO UPDATE
   SET qty = EXCLUDED.qty, cost = EXCLUDED.cost, realized = EXCLUDED.realized, fees = EXCLUDED.fees,
       last_seq = EXCLUDED.last_seq;

-- order_events --
-- Every event that changes a projection, to take it up where an earlier writer left it. $1 stream, $2 kinds
SELECT seq, ts, payload FROM northstar.event WHERE stream = $1 AND kind = ANY ($2) ORDER BY seq;

-- runs --
-- The registry of runs, newest first. $1 kind or NULL, $2 limit
SELECT * FROM northstar.runs WHERE $1::text IS NULL OR kind = $1 ORDER BY stream DESC LIMIT $2;

-- run --
-- Runs whose id is, or begins with, a text; the exact one first. $1 text
SELECT * FROM northstar.runs WHERE starts_with(run_id, $1) ORDER BY run_id <> $1, stream DESC LIMIT 3;

-- events --
-- A stream's events in order. $1 stream, $2 first seq, $3 last seq, $4 kinds or NULL for all
SELECT seq, epoch, ts, cause, kind, strategy, account, order_id, payload, hash FROM northstar.events
 WHERE stream = $1 AND seq BETWEEN $2 AND $3 AND ($4::text[] IS NULL OR kind = ANY ($4)) ORDER BY seq;

-- order_span --
-- From which to which number an order's events lie. $1 stream, $2 order_id
SELECT submitted_seq, last_seq FROM northstar.orders WHERE stream = $1 AND order_id = $2;

-- orders --
-- A stream's orders as they stand, oldest first. $1 stream
SELECT * FROM northstar.orders WHERE stream = $1 ORDER BY submitted_seq;

-- fills --
-- A stream's fills, oldest first. $1 stream
SELECT * FROM northstar.fills WHERE stream = $1 ORDER BY seq;

-- positions --
-- A stream's positions, flat ones too. $1 stream
SELECT * FROM northstar.positions WHERE stream = $1 ORDER BY account, strategy, symbol;

-- denials --
-- What was refused in a stream, oldest first. $1 stream
SELECT * FROM northstar.denials WHERE stream = $1 ORDER BY seq;

-- tick_blocks --
-- The newest tick blocks of a stream that hold a symbol, newest first. $1 stream, $2 symbol
SELECT first_seq, payload FROM northstar.ticks WHERE stream = $1 AND symbols @> ARRAY[$2] ORDER BY first_seq DESC;

-- ticks_between --
-- The tick blocks of a stream in order. $1 stream, $2 first seq, $3 last seq
SELECT first_seq, payload FROM northstar.ticks
 WHERE stream = $1 AND first_seq + n > $2 AND first_seq <= $3 ORDER BY first_seq;

-- commit_without_waiting --
-- For this transaction alone: a crash may lose it, never the order of things.
SET LOCAL synchronous_commit = off;

-- has_block --
-- Whether a tick block is stored. $1 stream, $2 first_seq
SELECT EXISTS (SELECT FROM northstar.tick_block WHERE stream = $1 AND first_seq = $2);

-- alive --
-- Nothing, from a server that lives.
SELECT;
