"""Edits rows of the ledger behind the back of Tidemill, and asks `tidemill audit verify`."""

import json
import random
import sqlite3
from collections.abc import Sequence

from benchmarks.reliability.shop import Yard
from benchmarks.reliability.tally import Tally

BOOKS = ("audit", "verdicts", "releases", "routes", "runs", "schemas", "tokens")
_DECISIONS = (
    ("models", "freeze", "--reason", "holidays"),
    ("models", "thaw", "--reason", "back"),
    ("tokens", "create", "app", "--role", "predict"),
    ("triggers", "pause", "watch", "--reason=test"),
    ("models", "promote", "shop/2", "--reason", "it is better"),
    ("models", "rollback", "--reason", "it was not"),
)


def try_edits(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Edit or delete random rows of the books, each in a fresh copy of the ledger."""
    tallies = {book: Tally(f"edited row of {book}", named=0, is_repaired=False) for book in BOOKS}
    with yards[0].copy() as shop:
        for words in _DECISIONS:
            shop.require(*words)
        file = shop.state / "ledger.db"
        shop.checkpoint()
        clean = file.read_bytes()
        for number in range(tries):
            tally = tallies[BOOKS[number % len(BOOKS)]]
            what = _edit(file, BOOKS[number % len(BOOKS)], generator)
            found = shop.run("audit", "verify")
            tally.add(what, named=found.code == 1, broken=[])
            for name in ("ledger.db-wal", "ledger.db-shm"):
                (shop.state / name).unlink(missing_ok=True)
            file.write_bytes(clean)
        if shop.run("audit", "verify").code:
            raise SystemExit("`audit verify` reports an unchanged ledger")
    return list(tallies.values())


def _edit(file: "object", book: str, generator: random.Random) -> str:
    connection = sqlite3.connect(str(file))
    try:
        with connection:
            rows = connection.execute(f"SELECT rowid, body FROM {book}").fetchall()
            row, body = generator.choice(rows)
            if generator.random() < 0.2:
                connection.execute(f"DELETE FROM {book} WHERE rowid = ?", (row,))
                return "a row was deleted"
            fields = json.loads(body)
            name = generator.choice(sorted(fields))
            fields[name] = _change(fields[name], generator)
            connection.execute(f"UPDATE {book} SET body = ? WHERE rowid = ?", (json.dumps(fields), row))
            return f"its {name} was edited"
    finally:
        connection.close()


def _change(value: object, generator: random.Random) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + generator.choice((1, -1))
    if isinstance(value, str):
        return value[:-1] + generator.choice("xyz") if value else "x"
    if isinstance(value, list):
        return [_change(value[0], generator), *value[1:]] if value else ["x"]
    if isinstance(value, dict):
        key = generator.choice(sorted(value)) if value else "x"
        return value | {key: _change(value.get(key, ""), generator)}
    return "x"
