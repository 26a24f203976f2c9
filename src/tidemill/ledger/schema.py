"""The ledger's tables: create them for a new ledger, and upgrade those of an earlier version."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tidemill.errors import StoreMissing, TidemillError
from tidemill.ledger.connections import Connections
from tidemill.ledger.database import Database
from tidemill.ledger.migrations import FIRST, HEAD, MIGRATIONS
from tidemill.ledger.seals import define_seals
from tidemill.ledger.table import INDEX_TABLES, Table, index_definition

# Keep this name: every earlier version of Tidemill reads the number of the last migration from this table, and refuses
# a newer ledger.
_VERSION_TABLE = "alembic_version"


def create_or_upgrade(
    connections: Connections, tables: Sequence[Table], fill: Callable[[Any], None], *, create: bool = True
) -> None:
    """Create the tables, or upgrade them to this version; other processes wait until it is done.

    `fill` writes the search index of every record on a connection, after an upgrade. Each later connection is checked.

    Raises
    ------
    StoreMissing
        if the file of the ledger does not exist and may not be created.
    TidemillError
        if the ledger cannot be opened, has no tables and may not be created, or belongs to a newer version.
    """
    database = connections.database
    if create:
        with _explained(database):
            database.prepare(lambda connection: _create(database, connection, tables))
    connections.on_connect = partial(_check, database, tables, fill, create)
    with _explained(database):
        connections.connection()
    # The database of each thread is a new one if it is in memory; any other one has its tables now.
    connections.on_connect = partial(_check, database, tables, fill, not database.address)


def _check(
    database: Database, tables: Sequence[Table], fill: Callable[[Any], None], create: bool, connection: Any
) -> None:
    """Check that a new connection leads to a ledger of this version; upgrade or create it if necessary."""
    version = _version(database, connection)
    if version == HEAD:
        return
    if version:
        _refuse_newer(database, version)
        _upgrade(database, fill)
    elif create:
        _create_together(database, connection, tables)
    else:
        raise StoreMissing(
            f"the database at {database.address} has no tables of a ledger: it is not the ledger of this project",
            "put the ledger back, and everything continues without a restart, or restore a backup:"
            " `tidemill restore FILE`",
        )


def _create_together(database: Database, connection: Any, tables: Sequence[Table]) -> None:
    """Create the tables in a database without tables; of several processes, one creates them."""
    database.begin(connection, durable=True)
    try:
        database.lock_for_setting_up(connection)
        if _version(database, connection) == "":
            _create(database, connection, tables)
        connection.execute("COMMIT")
    except BaseException:
        database.roll_back(connection)
        raise


@contextmanager
def _explained(database: Database) -> Iterator[None]:
    try:
        yield
    except database.Error as refused:
        raise database.explain(refused, "cannot be opened") from None


def _version(database: Database, connection: Any) -> str:
    """Return the number of the last migration; empty if there are no tables."""
    if not database.has_table(connection, _VERSION_TABLE):
        return FIRST if database.has_table(connection, "audit") else ""
    rows = connection.execute(f"SELECT version_num FROM {_VERSION_TABLE}").fetchall()
    return str(rows[0][0]) if rows else FIRST


def _refuse_newer(database: Database, version: str) -> None:
    if version > HEAD:
        raise TidemillError(
            f"the ledger at {database.address} belongs to a newer version of tidemill: {version} (supported: {HEAD})",
            "upgrade tidemill: `pip install --upgrade tidemill`; nothing was changed",
        )


def _create(database: Database, connection: Any, tables: Sequence[Table]) -> None:
    for table in tables:
        for statement in table.definition(database):
            connection.execute(statement)
    for statement in (*index_definition(database), *define_seals(database)):
        connection.execute(statement)
    _write_version(database, connection)


def _write_version(database: Database, connection: Any) -> None:
    if not database.has_table(connection, _VERSION_TABLE):
        key = f"CONSTRAINT {_VERSION_TABLE}_pkc PRIMARY KEY (version_num)"
        connection.execute(f"CREATE TABLE {_VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, {key})")
    connection.execute(f"DELETE FROM {_VERSION_TABLE}")
    connection.execute(f"INSERT INTO {_VERSION_TABLE} VALUES ('{HEAD}')")


def _upgrade(database: Database, fill: Callable[[Any], None]) -> None:
    """Run the missing migrations in one transaction, in which no other process can change the tables."""
    connection = database.connect_to_migrate()
    try:
        database.begin_to_migrate(connection)
        version = _version(database, connection)
        # Another process may have finished the upgrade.
        if version != HEAD:
            _refuse_newer(database, version)
            for number, migrate in MIGRATIONS:
                if number > version:
                    migrate(connection, database)
            for table in INDEX_TABLES:
                connection.execute(f"DELETE FROM {table}")
            fill(connection)
            _write_version(database, connection)
        connection.commit()
    except database.Error as refused:
        database.roll_back(connection)
        raise database.explain(refused, "cannot be upgrade_record to this version") from None
    except BaseException:
        database.roll_back(connection)
        raise
    finally:
        connection.close()
