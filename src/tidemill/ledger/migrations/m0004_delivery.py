"""Migration 0004: the tables of builds, deployments and tokens."""

from typing import Any

from tidemill.ledger.database import Database
from tidemill.ledger.table import Table

# The tables as they were introduced; later changes of the ledger's tables need migrations of their own.
_TABLES = (
    Table("builds", ("commit", "branch", "state", "run"), unique=(("project", "number"),)),
    Table("deployments", ("build", "state"), unique=(("environment", "version"),)),
    Table("tokens", ("owner", "digest"), unique=(("name",),)),
)


def upgrade(connection: Any, database: Database) -> None:
    """Create the tables."""
    for table in _TABLES:
        for statement in table.definition(database):
            connection.execute(statement)
