"""The ledger: the facts of a project in SQL, on SQLite or PostgreSQL."""
