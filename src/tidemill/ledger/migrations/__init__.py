"""How the ledger of an earlier version becomes one of this version: run by Alembic, imported only when needed."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

HERE = Path(__file__).parent


def upgrade(connection: Connection, stamp: str = "") -> None:
    """Bring the tables to this version's, within the connection's transaction; `stamp` marks a ledger that has none."""
    configuration = Config()
    # Not an ini file's text: a percent sign in the path would be taken for a reference.
    configuration.set_main_option("script_location", str(HERE).replace("%", "%%"))
    attributes: dict[str, Any] = configuration.attributes
    attributes["connection"] = connection
    if stamp:
        command.stamp(configuration, stamp)
    command.upgrade(configuration, "head")
