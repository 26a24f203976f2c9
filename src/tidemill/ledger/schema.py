"""The ledger's tables: created for a new ledger, compared with this version, and upgraded from an earlier one."""

from collections.abc import Callable, Sequence
from typing import Any

from tidemill.errors import TidemillError
from tidemill.ledger.connections import Connections
from tidemill.ledger.database import Database
from tidemill.ledger.migrations import FIRST, HEAD, MIGRATIONS
from tidemill.ledger.table import INDEX_TABLES, Table, index_definition

# The number of the last migration stays under this name: every earlier version of tidemill looks for it there, and
# so refuses a ledger that is newer than itself.
_STAMPS = "alembic_version"


def settle(connections: Connections, tables: Sequence[Table], fill: Callable[[Any], None]) -> None:
    """Create or upgrade the ledger, so that it is one of this version; one process does it, others wait for it.

    `fill` writes the search index of every record on a connection, after an upgrade.

    Raises
    ------
    TidemillError
        if it cannot be opened, or was written by a newer version.
    """
    database = connections.database
    try:
        connection = connections.connection()
        version = _version(database, connection)
        if version not in (HEAD, ""):
            _refuse_newer(database, version)
            _upgrade(database, fill)
    except database.Error as refused:
        raise database.explain(refused, "cannot be opened") from None
    if version == "":
        with connections.transaction(durable=True) as connection:
            database.lock_for_setting_up(connection)
            if _version(database, connection) == "":
                _create(database, connection, tables)


def _version(database: Database, connection: Any) -> str:
    """The number of the last migration of its tables; empty where there are no tables yet."""
    if not database.has(connection, _STAMPS):
        return FIRST if database.has(connection, "audit") else ""
    rows = connection.execute(f"SELECT version_num FROM {_STAMPS}").fetchall()
    return str(rows[0][0]) if rows else FIRST


def _refuse_newer(database: Database, version: str) -> None:
    if version > HEAD:
        raise TidemillError(
            f"the ledger at {database.place} is of a newer version of tidemill: {version}, this one knows {HEAD}",
            "upgrade it: `pip install --upgrade tidemill`; nothing was changed",
        )


def _create(database: Database, connection: Any, tables: Sequence[Table]) -> None:
    for table in tables:
        for statement in table.definition(database):
            connection.execute(statement)
    for statement in index_definition(database):
        connection.execute(statement)
    _stamp(database, connection)


def _stamp(database: Database, connection: Any) -> None:
    if not database.has(connection, _STAMPS):
        key = f"CONSTRAINT {_STAMPS}_pkc PRIMARY KEY (version_num)"
        connection.execute(f"CREATE TABLE {_STAMPS} (version_num VARCHAR(32) NOT NULL, {key})")
    connection.execute(f"DELETE FROM {_STAMPS}")
    connection.execute(f"INSERT INTO {_STAMPS} VALUES ('{HEAD}')")


def _upgrade(database: Database, fill: Callable[[Any], None]) -> None:
    """Run the migrations that a ledger lacks, in one transaction, while no other process changes its tables."""
    connection = database.connect_to_migrate()
    try:
        database.begin_to_migrate(connection)
        version = _version(database, connection)
        # Another process may have done it meanwhile.
        if version != HEAD:
            _refuse_newer(database, version)
            for number, migrate in MIGRATIONS:
                if number > version:
                    migrate(connection, database)
            for table in INDEX_TABLES:
                connection.execute(f"DELETE FROM {table}")
            fill(connection)
            _stamp(database, connection)
        connection.commit()
    except database.Error as refused:
        database.roll_back(connection)
        raise database.explain(refused, "cannot be upgraded to this version") from None
    except BaseException:
        database.roll_back(connection)
        raise
    finally:
        connection.close()
