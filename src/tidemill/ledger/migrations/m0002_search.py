"""Migration 0002: a search index over words, links and measures, and text that sorts by code points."""

from typing import Any

from tidemill.ledger.database import Database

_TABLES = ("artifacts", "runs", "steps", "verdicts", "releases", "routes", "events", "jobs", "schemas", "audit")


def upgrade(connection: Any, database: Database) -> None:
    """Change the tables; the records are indexed after all migrations."""
    postgres = database.dialect == "postgresql"
    collate, ordered = (' COLLATE "C"', "") if postgres else ("", " WITHOUT ROWID")
    if postgres:
        for table in _TABLES:
            _order_by_code_points(connection, table)
    for table in _TABLES:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN words TEXT DEFAULT '' NOT NULL")
    connection.execute(
        f"CREATE TABLE terms (book VARCHAR(16){collate} NOT NULL, term VARCHAR(200){collate} NOT NULL,"
        f" id VARCHAR(80){collate} NOT NULL, PRIMARY KEY (book, term, id)){ordered}"
    )
    connection.execute(
        f"CREATE TABLE measures (book VARCHAR(16){collate} NOT NULL, name VARCHAR(200){collate} NOT NULL,"
        f" id VARCHAR(80){collate} NOT NULL, value DOUBLE PRECISION NOT NULL, PRIMARY KEY (book, name, id)){ordered}"
    )
    connection.execute("CREATE INDEX ix_measures_value ON measures (book, name, value, id)")


def _order_by_code_points(connection: Any, table: str) -> None:
    columns = connection.execute(
        "SELECT column_name, character_maximum_length FROM information_schema.columns"
        f" WHERE table_name = '{table}' AND table_schema = ANY (current_schemas(false))"
        " AND character_maximum_length IS NOT NULL ORDER BY ordinal_position"
    ).fetchall()
    changes = (f'ALTER COLUMN "{name}" TYPE VARCHAR({length}) COLLATE "C"' for name, length in columns)
    connection.execute(f"ALTER TABLE {table} {', '.join(changes)}")
