"""An index over words, links and measures, and text that is ordered by its code points."""

from alembic import op
from sqlalchemy import inspect

revision = "0002"
down_revision = "0001"
_TABLES = ("artifacts", "runs", "steps", "verdicts", "releases", "routes", "events", "jobs", "schemas", "audit")


def upgrade() -> None:
    """Change the tables; the records are indexed once all migrations are done."""
    postgres = op.get_bind().dialect.name == "postgresql"
    collate, ordered = (' COLLATE "C"', "") if postgres else ("", " WITHOUT ROWID")
    if postgres:
        for table in _TABLES:
            _order_by_code_points(table)
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ADD COLUMN words TEXT DEFAULT '' NOT NULL")
    op.execute(
        f"CREATE TABLE terms (book VARCHAR(16){collate} NOT NULL, term VARCHAR(200){collate} NOT NULL,"
        f" id VARCHAR(80){collate} NOT NULL, PRIMARY KEY (book, term, id)){ordered}"
    )
    op.execute(
        f"CREATE TABLE measures (book VARCHAR(16){collate} NOT NULL, name VARCHAR(200){collate} NOT NULL,"
        f" id VARCHAR(80){collate} NOT NULL, value DOUBLE PRECISION NOT NULL, PRIMARY KEY (book, name, id)){ordered}"
    )
    op.execute("CREATE INDEX ix_measures_value ON measures (book, name, value, id)")


def _order_by_code_points(table: str) -> None:
    columns = inspect(op.get_bind()).get_columns(table)
    lengths = {column["name"]: getattr(column["type"], "length", None) for column in columns}
    changes = (
        f'ALTER COLUMN "{name}" TYPE VARCHAR({length}) COLLATE "C"' for name, length in lengths.items() if length
    )
    op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
