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
