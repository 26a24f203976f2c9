"""Finds damage in the file of an online store: in its structure, in a row, and at the place of a row that is gone."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tidemill.core.damage import Damage
from tidemill.errors import Corrupt
from tidemill.featurestore.packing import unpack

CREATE = """
CREATE TABLE latest (
    view TEXT NOT NULL, entity TEXT NOT NULL, time REAL NOT NULL, row BLOB NOT NULL, PRIMARY KEY (view, entity)
) WITHOUT ROWID
"""
CURE = "`tidemill doctor --mend` computes its rows again"
# A row whose key is damaged is still at its old place in the file, beside the place where a search for it ends.
_NEIGHBOURS = (
    "SELECT view, entity, time, row FROM latest WHERE (view, entity) > (?, ?) ORDER BY view, entity LIMIT 1",
    "SELECT view, entity, time, row FROM latest WHERE (view, entity) < (?, ?) ORDER BY view DESC, entity DESC LIMIT 1",
)


def decode_text(content: bytes) -> str:
    """Return a text of the database, also one whose bytes are damaged: its checksum does not match then."""
    return content.decode(errors="surrogateescape")


def create_structure_error(file: Path, problem: str) -> Corrupt:
    """Return the error about a file whose structure is damaged."""
    return Corrupt(f"the online store {file} is damaged: {problem}", CURE)


def require_table(connection: sqlite3.Connection, file: Path) -> None:
    """Raise `Corrupt` if a file is empty, or is another database."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'latest'").fetchall():
        raise create_structure_error(file, "it is empty, or it is another database")


def require_structure(connection: sqlite3.Connection, file: Path) -> None:
    """Raise `Corrupt` if the pages of a file do not fit together."""
    (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if problem != "ok":
        raise create_structure_error(file, problem)


def require_neighbours(connection: sqlite3.Connection, view: str, entity: str) -> None:
    """Raise `Corrupt` if a row beside an entity that was not found is damaged: it could be that of the entity."""
    for query in _NEIGHBOURS:
        row = connection.execute(query, (view, entity)).fetchone()
        if row is not None:
            _unpack(row)


def find_damages(connection: sqlite3.Connection, file: Path) -> Iterator[Damage]:
    """Read all rows, and yield the damage of the structure and of each row."""
    (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if problem != "ok":
        damage = create_structure_error(file, problem)
        yield Damage(store="online", name=file.name, state="damaged", problem=damage.problem, cure=damage.cure)
    for row in connection.execute("SELECT view, entity, time, row FROM latest"):
        try:
            _unpack(row)
        except Corrupt as damage:
            name = f"{row[0]}/{row[1]}"
            yield Damage(store="online", name=name, state="damaged", problem=damage.problem, cure=damage.cure)


def copy_intact_rows(connection: sqlite3.Connection) -> None:
    """Write all rows that are not damaged to a new table, which replaces the table."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DROP TABLE IF EXISTS intact")
        connection.execute(CREATE.replace("latest", "intact"))
        for row in connection.execute("SELECT view, entity, time, row FROM latest").fetchall():
            with suppress(Corrupt):
                _unpack(row)
                connection.execute("INSERT OR REPLACE INTO intact VALUES (?, ?, ?, ?)", row)
        connection.execute("DROP TABLE latest")
        connection.execute("ALTER TABLE intact RENAME TO latest")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _unpack(row: tuple[str, str, float, bytes]) -> None:
    view, entity, time, packed = row
    if not (isinstance(view, str) and isinstance(entity, str) and isinstance(packed, bytes)):
        raise Corrupt(f"the row {view!r}, {entity!r} is damaged in the online store", CURE)
    unpack(view, entity, time, packed)
