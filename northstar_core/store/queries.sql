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

-- ticks_between --
-- The tick blocks of a stream in order. $1 stream, $2 first seq, $3 last seq, $4 longest block
SELECT first_seq, payload FROM northstar.ticks
 WHERE stream = $1 AND first_seq > $2::bigint - $4::bigint AND first_seq + n > $2 AND first_seq <= $3 ORDER BY first_seq;

-- commit_without_waiting --
-- For this transaction alone: a crash may lose it, never the order of things.
SET LOCAL synchronous_commit = off;

-- has_block --
-- Whether a tick block is stored. $1 stream, $2 first_seq
SELECT EXISTS (SELECT FROM northstar.tick_block WHERE stream = $1 AND first_seq = $2);

-- alive --
-- Nothing, from a server that lives.
SELECT;

-- desk_of --
-- The desk's stream. $1 run_id
SELECT stream, kind FROM northstar.run WHERE run_id = $1;

-- register_desk --
-- Open the desk's stream, if nobody has in the meantime. $1 run_id
INSERT INTO northstar.run (run_id, kind) VALUES ($1, 'desk') ON CONFLICT (run_id) DO NOTHING;

-- take_epoch --
-- Fence off every earlier writer of a stream; returns the new epoch. $1 stream
SELECT northstar.take_epoch($1);

-- desk_head --
-- A stream's last event, its last tick, and the epoch that may write. $1 stream
SELECT seq, hash, epoch, tick_seq FROM northstar.stream_head WHERE stream = $1;

-- end_holder --
-- End the session that holds a stream's lock, so that another can have it. $1 stream
SELECT pg_terminate_backend(pid) FROM pg_locks
 WHERE locktype = 'advisory' AND classid = 1853190260 AND objid = $1::integer::oid AND objsubid = 2 AND granted;

-- put_events --
-- Part of one statement: events. $1 stream, $2 epoch, then columns: $3 seq, $4 ts, $5 cause, $6 kind, $7 strategy, $8 account, $9 order_id, $10 payload, $11 hash
INSERT INTO northstar.event (stream, epoch, seq, ts, cause, kind, strategy, account, order_id, payload, hash)
SELECT $1::integer, $2::integer, * FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
                                               $9::text[], $10::bytea[], $11::bytea[]);

-- put_ticks --
-- Part of one statement: tick blocks. $1 stream, $2 epoch, then columns: $3 n, $4 first_seq, $5 last_ts, $6 symbols, each after a unit separator, $7 payload
INSERT INTO northstar.tick_block (stream, epoch, n, first_seq, last_ts, symbols, payload)
SELECT $1::integer, $2::integer, n, first_seq, last_ts, string_to_array(symbols, E'\x1f'), payload
  FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[]) AS t (n, first_seq, last_ts, symbols, payload);

-- put_orders --
-- Part of one statement: orders, new or changed, as rows of text. $1 JSON
INSERT INTO northstar.order_state AS o
SELECT (r->>0)::integer, r->>1, r->>2, r->>3, r->>4, r->>5, r->>6, r->>7, r->>8, (r->>9)::numeric, (r->>10)::numeric,
       (r->>11)::numeric, r->>12, (r->>13)::numeric, (r->>14)::numeric, r->>15, (r->>16)::bigint, (r->>17)::bigint,
       (r->>18)::bigint, (r->>19)::bigint
  FROM json_array_elements($1::json) r
    ON CONFLICT (stream, order_id) DO UPDATE
   SET qty = EXCLUDED.qty, limit_price = EXCLUDED.limit_price, stop_price = EXCLUDED.stop_price, status = EXCLUDED.status,
       cum_qty = EXCLUDED.cum_qty, leaves_qty = EXCLUDED.leaves_qty, reason = EXCLUDED.reason, last_seq = EXCLUDED.last_seq,
       last_ts = EXCLUDED.last_ts;

-- put_fills --
-- Part of one statement: fills as rows of text. $1 JSON
INSERT INTO northstar.fill
SELECT (r->>0)::integer, (r->>1)::bigint, (r->>2)::bigint, r->>3, r->>4, r->>5, r->>6, r->>7, r->>8, (r->>9)::numeric,
       (r->>10)::numeric, (r->>11)::numeric, (r->>12)::boolean
  FROM json_array_elements($1::json) r;

-- put_positions --
-- Part of one statement: positions as rows of text. $1 JSON
INSERT INTO northstar.position AS p
SELECT (r->>0)::integer, r->>1, r->>2, r->>3, (r->>4)::numeric, (r->>5)::numeric, (r->>6)::numeric, (r->>7)::numeric,
       (r->>8)::bigint
  FROM json_array_elements($1::json) r
    ON CONFLICT (stream, account, strategy, symbol) DO UPDATE
   SET qty = EXCLUDED.qty, cost = EXCLUDED.cost, realized = EXCLUDED.realized, fees = EXCLUDED.fees,
       last_seq = EXCLUDED.last_seq;

-- do_not_wait --
-- Part of one statement: a crash may lose this transaction, never the order of things.
SELECT set_config('synchronous_commit', 'off', true);

-- plan_once --
-- This session's statements are few and repeat: each is planned once, and none is worth compiling. Memory to check a batch.
SET work_mem = '64MB';
SET plan_cache_mode = force_generic_plan;
SET jit = off;

-- take_lease --
-- Take a lease that is free, has expired or is ours already; no row if another holds it. $1 strategy, $2 account, $3 holder, $4 seconds
INSERT INTO northstar.lease AS l (strategy, account, holder, expires)
VALUES ($1, $2, $3, clock_timestamp() + $4::float8 * interval '1 second')
    ON CONFLICT (strategy, account) DO UPDATE
   SET holder = EXCLUDED.holder, expires = EXCLUDED.expires,
       token = CASE WHEN l.holder = EXCLUDED.holder AND l.expires > clock_timestamp() THEN l.token ELSE l.token + 1 END,
       taken = CASE WHEN l.holder = EXCLUDED.holder AND l.expires > clock_timestamp() THEN l.taken ELSE clock_timestamp() END
 WHERE l.expires <= clock_timestamp() OR l.holder = EXCLUDED.holder
RETURNING strategy, account, holder, token, taken, expires;

-- renew_lease --
-- Hold a lease for longer; no row if it has expired or is another's. $1 strategy, $2 account, $3 token, $4 seconds
UPDATE northstar.lease SET expires = clock_timestamp() + $4::float8 * interval '1 second'
 WHERE strategy = $1 AND account = $2 AND token = $3 AND expires > clock_timestamp()
RETURNING strategy, account, holder, token, taken, expires;

-- release_lease --
-- Let go of a lease, if it is still this one. $1 strategy, $2 account, $3 token
UPDATE northstar.lease SET expires = clock_timestamp()
 WHERE strategy = $1 AND account = $2 AND token = $3 AND expires > clock_timestamp()
RETURNING token;

-- leases --
-- Every lease that is held now.
SELECT strategy, account, holder, token, taken, expires FROM northstar.lease
 WHERE expires > clock_timestamp() ORDER BY strategy, account;

-- claim_job --
-- Begin a planned run, unless it was begun, by whomever. $1 job, $2 planned, $3 holder, $4 started, $5 folder
INSERT INTO northstar.job_run (job, planned, holder, started, folder) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (job, planned) DO NOTHING RETURNING *;

-- job_run --
-- One planned run. $1 job, $2 planned
SELECT * FROM northstar.job_run WHERE job = $1 AND planned = $2;

-- restart_job --
-- Begin another attempt of a run that failed, was stopped or whose holder is gone; the attempt says from which. $1 job, $2 planned, $3 attempt, $4 holder, $5 started, $6 folder
UPDATE northstar.job_run
   SET attempt = attempt + 1, holder = $4, started = $5, folder = $6, outcome = 'running', finished = NULL, detail = '',
       recorded = clock_timestamp()
 WHERE job = $1 AND planned = $2 AND attempt = $3 AND outcome IN ('running', 'failed', 'stopped') RETURNING *;

-- finish_job --
-- Say how an attempt ended; once. $1 job, $2 planned, $3 attempt, $4 finished, $5 outcome, $6 detail
UPDATE northstar.job_run SET finished = $4, outcome = $5, detail = $6, recorded = clock_timestamp()
 WHERE job = $1 AND planned = $2 AND attempt = $3 AND outcome = 'running' RETURNING *;

-- miss_job --
-- Put on record that a planned run never began. $1 job, $2 planned, $3 now, $4 why
INSERT INTO northstar.job_run (job, planned, finished, outcome, detail) VALUES ($1, $2, $3, 'missed', $4)
    ON CONFLICT (job, planned) DO NOTHING RETURNING *;

-- job_runs --
-- Planned runs, the newest first. $1 job or NULL, $2 from, $3 to, $4 limit
SELECT * FROM northstar.job_run
 WHERE ($1::text IS NULL OR job = $1) AND planned BETWEEN $2 AND $3 ORDER BY planned DESC, job LIMIT $4;

-- running_jobs --
-- Runs that have begun and not ended: those of a worker that was killed too.
SELECT * FROM northstar.job_run WHERE outcome = 'running' ORDER BY planned, job;

-- unknown_jobs --
-- Those of some planned runs that nothing is known of. $1 jobs, $2 times planned, one for each
SELECT job, planned FROM unnest($1::text[], $2::bigint[]) AS wanted (job, planned)
 WHERE NOT EXISTS (SELECT FROM northstar.job_run j WHERE j.job = wanted.job AND j.planned = wanted.planned)
 ORDER BY planned, job;

-- put_recent --
-- The newest ticks of symbols, slot by slot, if no later epoch has begun. $1 stream, $2 epoch, then columns: $3 symbol, $4 slot, $5 first_seq, $6 last_seq, $7 payload
WITH unwaited AS (SELECT set_config('synchronous_commit', 'off', true)),
     ours AS MATERIALIZED (SELECT FROM unwaited, northstar.stream_head WHERE stream = $1::integer AND epoch = $2::integer)
INSERT INTO northstar.recent_ticks AS t (stream, symbol, slot, first_seq, last_seq, payload)
SELECT $1::integer, new.*
  FROM unnest($3::text[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bytea[]) AS new, ours
    ON CONFLICT (stream, symbol, slot) DO UPDATE
   SET first_seq = EXCLUDED.first_seq, last_seq = EXCLUDED.last_seq, payload = EXCLUDED.payload;

-- clear_recent --
-- Forget the ring: what it lacks can no longer be told. $1 stream
DELETE FROM northstar.recent_ticks WHERE stream = $1;

-- recent_slots --
-- Where each symbol's ring ends, and how far it is complete, in the row of no symbol. $1 stream
SELECT DISTINCT ON (symbol) symbol, slot, first_seq, last_seq FROM northstar.recent_ticks
 WHERE stream = $1 ORDER BY symbol, last_seq DESC;

-- blocks_after --
-- Tick blocks that end beyond a number, to write on. $1 stream, $2 seq, $3 longest block, $4 limit
SELECT first_seq, payload FROM northstar.tick_block
 WHERE stream = $1 AND first_seq > $2::bigint - $3::bigint AND first_seq + n > $2 + 1 ORDER BY first_seq LIMIT $4;

-- recent --
-- A symbol's ring, and in the row of no symbol how far it is complete. $1 stream, $2 symbol
SELECT symbol, slot, first_seq, last_seq, payload FROM northstar.newest_ticks
 WHERE stream = $1 AND symbol IN ('', $2) ORDER BY first_seq;

-- blocks_with --
-- Tick blocks of a range that hold a symbol, newest first. $1 stream, $2 symbol, $3 from, $4 to, longest block $5
SELECT first_seq, payload FROM northstar.ticks
 WHERE stream = $1 AND symbols @> ARRAY[$2] AND first_seq > $3::bigint - $5::bigint AND first_seq <= $4 ORDER BY first_seq DESC;

-- tick_partitions --
-- The ranges of numbers whose ticks are kept.
SELECT first_seq, last_seq FROM northstar.tick_partitions ORDER BY first_seq;

-- be_owner --
-- For this transaction alone: as whom everything was made.
SET LOCAL ROLE northstar_owner;

-- drop_ticks --
-- Drop the ranges of ticks whose numbers are all below one; returns the first number of each. $1 seq
SELECT northstar.drop_ticks($1);

-- standing_orders --
-- A stream's orders to take up: those that work, and of the others the newest. $1 stream, $2 how many
SELECT order_id, strategy, account, symbol, side, order_type, tif, parent, qty::text, limit_price::text, stop_price::text,
       status, cum_qty::text, leaves_qty::text, reason, submitted_seq, submitted_ts, last_seq, last_ts
  FROM (SELECT * FROM northstar.order_state WHERE stream = $1 AND leaves_qty <> 0
        UNION
        (SELECT * FROM northstar.order_state WHERE stream = $1 ORDER BY submitted_seq DESC LIMIT $2)) o
 ORDER BY submitted_seq;

-- standing_positions --
-- A stream's positions to take up. $1 stream
SELECT account, strategy, symbol, qty, realized, fees FROM northstar.position WHERE stream = $1;

-- moves_of_open_positions --
-- The events that made the positions that are not flat, in order. $1 stream
SELECT e.seq, e.ts, e.payload FROM northstar.event e
 WHERE e.stream = $1 AND e.kind = 'PositionAdjusted'
UNION ALL
SELECT e.seq, e.ts, e.payload
  FROM northstar.position p JOIN northstar.fill f USING (stream, account, strategy, symbol)
  JOIN northstar.event e ON e.stream = f.stream AND e.seq = f.seq
 WHERE p.stream = $1 AND p.qty <> 0
 ORDER BY 1;

-- session_since --
-- Where the newest session began first; 0 if there was none. $1 stream
SELECT coalesce(min(seq), 0) FROM northstar.events
 WHERE stream = $1 AND kind = 'SessionBegan' AND convert_from(payload, 'UTF8')::jsonb ->> 'session' =
       (SELECT convert_from(payload, 'UTF8')::jsonb ->> 'session' FROM northstar.events
         WHERE stream = $1 AND kind = 'SessionBegan' ORDER BY seq DESC LIMIT 1);

-- restorable --
-- The events an engine is restored from, in order. $1 stream, $2 kinds, $3 further kinds, $4 from this seq on, $5 last seq
SELECT seq, payload FROM northstar.events
 WHERE stream = $1 AND seq <= $5 AND (kind = ANY ($2::text[]) OR (seq >= $4 AND kind = ANY ($3::text[]))) ORDER BY seq;

-- last_declared --
-- The last declaration of consumed ticks. $1 stream
SELECT seq, payload FROM northstar.events WHERE stream = $1 AND kind = 'TapeRead' ORDER BY seq DESC LIMIT 1;

-- settle --
-- Wait until everything committed before is on the disk: the smallest commit that waits for it.
SELECT pg_logical_emit_message(true, 'northstar', '');

-- mentions --
-- Whether a stream has an event of a strategy, or of an order. $1 stream, $2 strategy or NULL, $3 order_id or NULL
SELECT EXISTS (SELECT FROM northstar.events WHERE stream = $1 AND strategy = $2)
    OR EXISTS (SELECT FROM northstar.events WHERE stream = $1 AND order_id = $3);

-- block_at --
-- The first tick block from a number on. $1 stream, $2 seq
SELECT first_seq, n, last_ts FROM northstar.ticks WHERE stream = $1 AND first_seq >= $2 ORDER BY first_seq LIMIT 1;

-- tick_span --
-- The numbers of a stream's first and last tick blocks.  $1 stream
SELECT (SELECT first_seq FROM northstar.ticks WHERE stream = $1 ORDER BY first_seq LIMIT 1) AS low,
       (SELECT first_seq FROM northstar.ticks WHERE stream = $1 ORDER BY first_seq DESC LIMIT 1) AS high;
