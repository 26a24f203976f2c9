"""Migration 0006: seal the records, so that an edit by another program is found."""

from typing import Any

from tidemill.ledger.database import Database
from tidemill.ledger.seals import define_seals, seal_all

_BOOKS = (
    "artifacts",
    "runs",
    "steps",
    "verdicts",
    "releases",
    "routes",
    "events",
    "jobs",
    "schemas",
    "audit",
    "builds",
    "deployments",
    "tokens",
)


def upgrade(connection: Any, database: Database) -> None:
    """Create the table of the seals, and write one for each book."""
    for statement in define_seals(database):
        connection.execute(statement)
    seal_all(connection, database, _BOOKS)
