"""Migration 0003: read facts from the texts of old routes, runs and steps, and store them in fields."""

from typing import Any

import msgspec

from tidemill.ledger.database import Database

_BATCH_SIZE = 1000
# The first words of the reasons that earlier versions wrote.
_CHANGES = (
    ("promoted: ", "promote"),
    ("promoted by hand", "manual"),
    ("rolled back: ", "rollback"),
    ("rolled back by hand", "manual"),
    ("the first release", "first"),
    ("released whole", "direct"),
    ("canary of ", "canary"),
)
_STOPPED = "it said stop; "
_DECISIONS = (
    ("first time with this code", "new"),
    ("an earlier result", "lost"),
    ("its cache is off", "off"),
    ("it changes the world", "changes"),
    ("it reads the world", "reads"),
    ("asked for by hand", "requested"),
    ("same code and inputs", "hit"),
    ("transient, and its value is needed", "needed"),
    ("transient, and nobody needed", "unneeded"),
)


def upgrade(connection: Any, database: Database) -> None:
    """Add the missing fields to the records; the records are indexed after all migrations."""
    for table in _UPGRADES:
        page = database.statement(f"SELECT id, body FROM {table} WHERE id > ? ORDER BY id LIMIT {_BATCH_SIZE}")
        change = database.statement(f"UPDATE {table} SET body = ? WHERE id = ?")
        last = ""
        while rows := connection.execute(page, (last,)).fetchall():
            last = rows[-1][0]
            changed = [
                (new, identifier) for identifier, body in rows if (new := _upgrade_body(table, body)) is not None
            ]
            if changed:
                connection.cursor().executemany(change, changed)


def _upgrade_body(table: str, body: str) -> str | None:
    try:
        record = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None  # the index, which is filled next, reports the record
    upgraded = upgrade_record(table, record)
    return msgspec.json.encode(upgraded).decode() if upgraded != record else None


def upgrade_record(table: str, record: dict[str, Any]) -> dict[str, Any]:
    """Add the missing fields to a record of an earlier version.

    >>> upgrade_record("routes", {"reason": "promoted: better", "version": 2})["change"]
    'promote'
    """
    return _UPGRADES[table](record) if table in _UPGRADES else record


def _route(record: dict[str, Any]) -> dict[str, Any]:
    if "change" in record:
        return record
    change = _first(record["reason"], _CHANGES)
    if not change and any(arm["role"] == "challenger" for arm in record.get("arms", ())):
        change = "canary"
    if not change and record.get("by", "policy") != "policy":
        change = "manual"
    if not change and record.get("version") == 1:
        change = "first"
    return record | {"change": change or "unknown"}


def _run(record: dict[str, Any]) -> dict[str, Any]:
    attempts = [_interrupted(attempt) for attempt in record.get("attempts", ())]
    return _interrupted(record) | ({"attempts": attempts} if attempts else {})


def _interrupted(record: dict[str, Any]) -> dict[str, Any]:
    if "interruption" in record or record.get("state") != "interrupted":
        return record
    error = record.get("error", "")
    by_signal = "signal" if error.endswith("by hand") else "crash"
    return record | {"interruption": "restore" if error.endswith("when the backup was taken") else by_signal}


def _step(record: dict[str, Any]) -> dict[str, Any]:
    if "decision" in record:
        return record
    reason = record["reason"]
    stops = reason.startswith(_STOPPED)
    decision = _first(reason.removeprefix(_STOPPED), _DECISIONS) or "unknown"
    return record | {"decision": decision} | ({"stops": True} if stops else {})


def _first(text: str, meanings: tuple[tuple[str, str], ...]) -> str:
    return next((meaning for beginning, meaning in meanings if text.startswith(beginning)), "")


_UPGRADES = {"routes": _route, "runs": _run, "steps": _step}
