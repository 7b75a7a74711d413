"""Retention: whole ranges of old ticks may be dropped; events never are."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RETENTION = """
CREATE FUNCTION northstar.drop_ticks(below bigint) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT c.oid::regclass AS name, t.first_seq
                  FROM northstar.tick_partitions t
                  JOIN pg_class c ON c.relname = 'tick_block_' || lpad((t.first_seq / 16777216)::text, 5, '0')
                  JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'northstar.tick_block'::regclass
                 WHERE t.last_seq < below ORDER BY t.first_seq
    LOOP
        EXECUTE format('DROP TABLE %s', part.name);
        RETURN NEXT part.first_seq;
    END LOOP;
END $$;
--
COMMENT ON FUNCTION northstar.drop_ticks IS
    'Drop the ranges of ticks, of every stream, whose numbers are all below one; for the owner, by hand or by a job.';
--
REVOKE ALL ON FUNCTION northstar.drop_ticks FROM PUBLIC
"""


def upgrade() -> None:
    """Add the one way to drop ticks."""
    op.get_bind().exec_driver_sql("SET LOCAL ROLE northstar_owner")
    for statement in RETENTION.split("\n--\n"):
        op.get_bind().exec_driver_sql(statement)
    op.get_bind().exec_driver_sql("RESET ROLE")


def downgrade() -> None:
    """Refuse: an audit log is not taken apart."""
    raise NotImplementedError("an audit log is not taken apart; drop the database if you mean it")
