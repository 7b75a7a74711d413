"""The event store: a real Postgres, embedded or by DSN; append-only, numbered, chained. Start at postgres.py."""
