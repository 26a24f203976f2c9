"""The ledger's tables: created whole, held against this version, and brought up from an earlier one."""

from collections.abc import Callable, Sequence
from typing import Any

from tidemill.errors import TidemillError
from tidemill.ledger.connections import Connections, Database
from tidemill.ledger.table import Table, index_definition

HEAD = "0002"
_UNSTAMPED = "0001"
_STAMPS = "alembic_version"


def settle(connections: Connections, tables: Sequence[Table], fill: Callable[[Any], None]) -> None:
    """Make the ledger one of this version, whatever it is; of many processes one does it and the others wait.

    `fill` writes the index of records that had none, on the connection that it is given.

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
    """The revision of its tables; empty where there are none yet."""
    if not database.has(connection, _STAMPS):
        return _UNSTAMPED if database.has(connection, "audit") else ""
    rows = connection.execute(f"SELECT version_num FROM {_STAMPS}").fetchall()
    return str(rows[0][0]) if rows else _UNSTAMPED


def _refuse_newer(database: Database, version: str) -> None:
    if version > HEAD:
        raise TidemillError(
            f"the ledger at {database.place} is of a newer version of tidemill: {version}, this one knows {HEAD}",
            "upgrade it: `pip install --upgrade tidemill`; nothing was changed",
        )


def _create(database: Database, connection: Any, tables: Sequence[Table]) -> None:
    for table in tables:
        for statement in table.definition(database.dialect):
            connection.execute(statement)
    for statement in index_definition(database.dialect):
        connection.execute(statement)
    connection.execute(
        f"CREATE TABLE {_STAMPS} (version_num VARCHAR(32) NOT NULL, CONSTRAINT {_STAMPS}_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(f"INSERT INTO {_STAMPS} VALUES ('{HEAD}')")


def _upgrade(database: Database, fill: Callable[[Any], None]) -> None:
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import DBAPIError

    from tidemill.ledger.migrations import upgrade

    engine = create_engine(database.sqlalchemy_url, creator=database.connect_to_migrate, poolclass=NullPool)
    try:
        with engine.connect() as connection, connection.begin():
            own = connection.connection.driver_connection
            database.begin_to_migrate(own)
            version = _version(database, own)
            if version == HEAD:
                return
            _refuse_newer(database, version)
            upgrade(connection, "" if database.has(own, _STAMPS) else _UNSTAMPED)
            fill(own)
    except DBAPIError as refused:
        raise database.explain(refused.orig or refused, "cannot be brought up to this version") from None
