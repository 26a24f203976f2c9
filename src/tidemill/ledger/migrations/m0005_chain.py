"""Migration 0005: link the entries of the audit log to a chain, each with the hash of the one before it."""

from typing import Any

import msgspec

from tidemill.errors import Corrupt
from tidemill.ledger.audit import hash_entry
from tidemill.ledger.database import Database
from tidemill.ledger.table import Table, to_searchable

_BATCH_SIZE = 1000
# The table as it was introduced; later changes of it need migrations of their own.
_TABLE = Table("audit", ("actor", "action", "subject"), unique=(("number",),))


def upgrade(connection: Any, database: Database) -> None:
    """Create the table with the numbers of the entries; the order of their ids becomes the order of the chain."""
    connection.execute("CREATE TEMPORARY TABLE unlinked_audit AS SELECT id, revision, body FROM audit")
    connection.execute("DROP TABLE audit")
    for statement in _TABLE.definition(database):
        connection.execute(statement)
    page = database.statement(
        f"SELECT id, revision, body FROM unlinked_audit WHERE id > ? ORDER BY id LIMIT {_BATCH_SIZE}"
    )
    insert = database.statement(
        "INSERT INTO audit (id, revision, action, actor, number, subject, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    number, previous, last = 0, "", ""
    while rows := connection.execute(page, (last,)).fetchall():
        for identifier, revision, body in rows:
            number += 1
            entry = _read(identifier, body) | {"number": number, "previous": previous}
            previous = hash_entry(entry)
            entry["hash"] = previous
            columns = [to_searchable(entry[name]) for name in ("action", "actor", "number", "subject")]
            connection.execute(insert, (identifier, revision, *columns, msgspec.json.encode(entry).decode()))
        last = rows[-1][0]
    connection.execute("DROP TABLE unlinked_audit")


def _read(identifier: str, body: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"audit {identifier} cannot be read: {error}", "restore a backup: `tidemill restore FILE`"
        ) from None
