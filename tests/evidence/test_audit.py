"""Tampering with the audit log: every edited, deleted, inserted or moved entry is found and named."""

import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.ledger.auditing import entry
from tests.projects import make_project, tidemill
from tidemill.clock import SystemClock
from tidemill.errors import Corrupt, InputError
from tidemill.evidence.audit import AuditReport, find_hash, read_exported, verify_entries
from tidemill.evidence.heads import (
    SignedHead,
    compare_with_head,
    create_key,
    export_from_settings,
    read_head,
    sign_head,
    verify_head,
    write_head,
)
from tidemill.ledger.audit import hash_entry
from tidemill.ledger.ledger import Ledger

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_FIELDS = ("actor", "action", "subject", "time", "reason", "environment", "detail", "id", "previous", "hash", "number")


class Log:
    """A ledger file with a log of 12 entries, and SQL on it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger.db"
        self.books = Ledger(f"sqlite:///{self.file}")
        for number in range(12):
            self.books.audit.add(entry(number, f"person {number % 3}", {"ticket": number, "share": 0.5}))

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.file) as connection:
            return connection.execute(sql, values).fetchall()

    def read(self, number: int) -> dict[str, Any]:
        ((body,),) = self.execute("SELECT body FROM audit WHERE number = ?", f"{number:012d}")
        fields: dict[str, Any] = msgspec.json.decode(body)
        return fields

    def write(self, number: int, fields: dict[str, Any]) -> None:
        """Replace an entry with all of its columns, as somebody does who knows the tables."""
        columns = {name: str(fields[name]) for name in ("actor", "action", "subject")}
        sets = ", ".join(f"{name} = ?" for name in (*columns, "body"))
        body = msgspec.json.encode(fields).decode()
        self.execute(f"UPDATE audit SET {sets} WHERE number = ?", *columns.values(), body, f"{number:012d}")

    def verify(self) -> AuditReport:
        return verify_entries(self.books.audit.stored())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_hundred_random_edits_are_found_and_named(log: Log) -> None:
    chance = random.Random(13)
    assert log.verify().faults == ()
    for _ in range(100):
        number, name = chance.randint(1, 12), chance.choice(_FIELDS)
        before = log.read(number)
        fields = before | {name: _edit(before[name], chance)}
        assert fields != before
        log.write(number, fields)
        faults = log.verify().faults
        assert any(fault.id == before["id"] or fault.number == number for fault in faults), (number, name, faults)
        log.write(number, before)
    assert log.verify().faults == ()


def _edit(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        return chance.choice([value | {"ticket": -1}, value | {"note": "x"}, {"ticket": value["ticket"]}])
    if isinstance(value, int):
        return value + chance.randint(1, 5)
    if not value:
        return "x"
    index = chance.randrange(len(value))
    return value[:index] + chance.choice("0123456789".replace(value[index], "")) + value[index + 1 :]


@pytest.mark.parametrize("column", ["actor", "action", "subject", "number", "words", "id", "body"])
def test_an_edited_column_is_found(log: Log, column: str) -> None:
    before = log.execute(f"SELECT {column} FROM audit WHERE number = '000000000005'")[0][0]
    for value in ("", "mallory", None):
        if column in ("id", "body", "words") and value is None:
            continue
        log.execute(f"UPDATE audit SET {column} = ? WHERE subject = 'flights/4' OR number = '000000000005'", value)
        assert log.verify().faults, (column, value)
        log.execute(f"UPDATE audit SET {column} = ? WHERE {column} IS ?", before, value)
    assert log.verify().faults == ()


@pytest.mark.parametrize(("first", "last"), [(1, 1), (6, 6), (11, 11), (1, 5), (4, 9)])
def test_a_deleted_entry_is_found(log: Log, first: int, last: int) -> None:
    log.execute("DELETE FROM audit WHERE number BETWEEN ? AND ?", f"{first:012d}", f"{last:012d}")
    (fault,) = log.verify().faults
    assert fault.number == last + 1
    missing = f"entry {first} was" if first == last else f"entries {first} to {last} were"
    assert f"{missing} deleted before it" in fault.problem


def test_an_inserted_entry_is_found(log: Log) -> None:
    forged = log.read(6) | {"id": "forged", "actor": "ada"}
    insert = "INSERT INTO audit (id, revision, actor, action, subject, number, body) VALUES (?, 1, ?, ?, ?, ?, ?)"

    def add(fields: dict[str, Any], number: str | None) -> list[str]:
        fields["hash"] = hash_entry(fields)
        values = (fields["id"], fields["actor"], fields["action"], fields["subject"], number)
        log.execute(insert, *values, msgspec.json.encode(fields).decode())
        found = [fault.id for fault in log.verify().faults]
        log.execute("DELETE FROM audit WHERE id = ?", fields["id"])
        return found

    assert "forged" in add(forged, None)
    assert "forged" in add(forged | {"number": 6}, "000000000006x")
    last = log.read(12)
    assert "forged" in add(forged | {"number": 14, "previous": last["hash"]}, "000000000014")
    assert "forged" in add(forged | {"number": 13, "previous": forged["previous"]}, "000000000013")
    # A whole new last entry needs a write to the ledger as Tidemill does it: only a signed head tells what was there.
    assert log.verify().faults == ()


def test_an_entry_that_was_replaced_with_a_right_hash_is_found_at_the_next(log: Log) -> None:
    fields = log.read(5) | {"actor": "mallory"}
    log.write(5, fields | {"hash": hash_entry(fields)})
    assert {fault.number for fault in log.verify().faults} >= {6}
    assert any("does not follow entry 5" in fault.problem for fault in log.verify().faults)


def test_two_entries_that_were_exchanged_are_found(log: Log) -> None:
    fourth, fifth = log.read(4), log.read(5)
    log.write(4, fifth | {"number": 4})
    log.write(5, fourth | {"number": 5})
    assert {4, 5} <= {fault.number for fault in log.verify().faults}


class Signer:
    """A key outside the workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "keys" / "audit.pem"
        self.key.parent.mkdir()
        self.public = create_key(self.key)

    def sign(self, log: Log, project: str = "flights") -> SignedHead:
        return sign_head(log.books.audit.head(), project, NOW, self.key, self.folder / "workspace")

    def compare(self, log: Log, signed: SignedHead) -> str:
        head = verify_head(signed, self.public, "flights")
        stored = log.books.audit.stored
        return compare_with_head(head, find_hash(stored(), head.count), log.verify().entries)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def test_a_signed_head_reveals_a_truncated_log_and_one_that_was_written_again(log: Log, signer: Signer) -> None:
    signed = signer.sign(log)
    assert signer.compare(log, signed) == ""
    log.books.audit.add(entry(100))
    assert signer.compare(log, signed) == "", "the log goes on"
    log.execute("DELETE FROM audit WHERE number > '000000000010'")
    assert log.verify().faults == (), "the chain alone does not tell"
    assert signer.compare(log, signed) == (
        "the log has 10 entries, and had 12 at 2026-03-01 00:00:00 UTC: entries were deleted"
    )
    log.books.audit.add(entry(200, "mallory"))
    log.books.audit.add(entry(201, "mallory"))
    assert log.verify().faults == ()
    assert "entry 12 is not the one of 2026-03-01" in signer.compare(log, signed)


def test_a_head_that_was_edited_or_signed_by_another_key_is_refused(log: Log, signer: Signer, tmp_path: Path) -> None:
    signed = signer.sign(log)
    for name, value in (("count", 3), ("hash", "0" * 64), ("time", datetime(2020, 1, 1, tzinfo=UTC))):
        edited = msgspec.structs.replace(signed, head=msgspec.structs.replace(signed.head, **{name: value}))
        with pytest.raises(Corrupt, match="edited after it was signed"):
            verify_head(edited, signer.public, "flights")
    for signature in ("", "AAAA", "!"):
        with pytest.raises(Corrupt, match="is wrong"):
            verify_head(msgspec.structs.replace(signed, signature=signature), signer.public, "flights")
    with pytest.raises(Corrupt, match="another key has signed it"):
        verify_head(signed, create_key(tmp_path / "mallory.pem"), "flights")
    with pytest.raises(Corrupt, match="belongs to project 'flights'"):
        verify_head(signed, signer.public, "other")


def test_wrong_keys_and_files_are_errors(log: Log, signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    inside = tmp_path / "workspace" / "key.pem"
    inside.write_bytes(signer.key.read_bytes())
    text = tmp_path / "text.pem"
    text.write_text("not a key")
    head = log.books.audit.head()

    def sign(key: Path) -> Callable[[], object]:
        return lambda: sign_head(head, "flights", NOW, key, tmp_path / "workspace")

    for attempt, problem in (
        (sign(inside), "is in the workspace"),
        (sign(text), "is not a key in PEM form"),
        (sign(tmp_path / "none.pem"), "cannot be read"),
        (sign(signer.public), "is not a key in PEM form"),
        (lambda: sign_head(None, "flights", NOW, signer.key, tmp_path / "workspace"), "has no entries"),
        (lambda: create_key(signer.key), "cannot be written"),
        (lambda: read_head(text), "is not a signed head"),
        (lambda: read_head(tmp_path / "none.json"), "cannot be read"),
        (lambda: verify_head(signer.sign(log), signer.key, "flights"), "is not a key in PEM form|no public Ed25519"),
    ):
        with pytest.raises(InputError, match=problem) as refused:
            attempt()
        assert refused.value.cure
    assert signer.key.stat().st_mode & 0o077 == 0
    write_head(signer.sign(log), tmp_path / "head.json")
    assert read_head(tmp_path / "head.json").head.count == 12
    with pytest.raises(InputError, match="is never replaced"):
        write_head(signer.sign(log), tmp_path / "head.json")


def test_the_head_is_exported_after_each_decision(
    log: Log, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []

    def export() -> Path | None:
        return export_from_settings(log.books, "flights", SystemClock(), tmp_path / "workspace", warnings.append)

    assert export() is None
    monkeypatch.setenv("TIDEMILL_AUDIT_KEY", str(signer.key))
    assert export() is None
    assert "only one of" in warnings.pop()
    monkeypatch.setenv("TIDEMILL_AUDIT_HEADS", str(tmp_path / "heads"))
    first = export()
    assert first is not None
    assert export() == first, "nothing was decided since"
    log.books.audit.add(entry(50))
    second = export()
    assert second is not None
    assert [read_head(file).head.count for file in (first, second)] == [12, 13]
    assert not warnings


def test_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    for name in ("ada", "ben", "cleo"):
        tidemill(folder, "tokens", "create", name, "--role", "viewer")
    assert "3 entries are unchanged" in tidemill(folder, "audit", "verify").stdout
    key, head, copy = (str(tmp_path / name) for name in ("key.pem", "head.json", "log.jsonl"))
    tidemill(folder, "audit", "key", key)
    tidemill(folder, "audit", "sign", "--key", key, "--out", head)
    tidemill(folder, "audit", "export", copy)
    verified = ("audit", "verify", "--head", head, "--public-key", f"{key}.pub")
    assert "continue 1 signed head" in tidemill(folder, *verified).stdout
    assert "continue 1 signed head" in tidemill(folder, *verified, "--file", copy).stdout
    assert tidemill(folder, "audit", "verify", "--head", head, code=2).stderr.startswith(
        "error: --public-key is missing"
    )
    lines = Path(copy).read_bytes().splitlines()
    assert verify_entries(read_exported(lines)).faults == ()
    Path(copy).write_bytes(b"\n".join([lines[0], lines[1].replace(b"token/ben", b"token/eve"), lines[2], b"{"]))
    assert [fault.number for fault in verify_entries(read_exported(Path(copy).read_bytes().splitlines())).faults] == [
        2,
        0,
    ]
    assert "entry 2 (" in tidemill(folder, "audit", "verify", "--file", copy, code=1).stdout
    database = folder / ".tidemill" / "ledger.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE audit SET body = replace(body, 'token/ben', 'token/eve')")
    refused = tidemill(folder, "audit", "verify", code=1)
    assert "entry 2 (" in refused.stdout
    assert "it was edited" in refused.stdout
    report = msgspec.json.decode(tidemill(folder, "audit", "verify", "--json", code=1).stdout)
    assert report["faults"][0]["number"] == 2
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE audit SET body = replace(body, 'token/eve', 'token/ben')")
        connection.execute("DELETE FROM audit WHERE number = '000000000003'")
    assert verify_entries(Ledger(f"sqlite:///{database}").audit.stored()).faults == ()
    assert "audit: records were edited, deleted" in tidemill(folder, "audit", "verify", code=1).stdout
    assert "entries were deleted" in tidemill(folder, *verified, code=1).stdout
