"""Damaged files of a table: each is named, and no wrong value is returned."""

import random
from pathlib import Path

import polars as pl
import pytest

from tidemill.errors import Corrupt
from tidemill.journal.table_files import CHECKSUMS
from tidemill.journal.tables import DeltaTables


def fill(root: Path) -> DeltaTables:
    chance, tables = random.Random(3), DeltaTables(str(root))
    for day in range(5):
        frame = pl.DataFrame({"delay": [chance.randrange(10**6) for _ in range(300)], "dest": ["BOS", "SFO"] * 150})
        tables.append("flights", f"day {day}", frame)
    return tables


def test_100_damaged_files_are_each_named_and_give_no_wrong_value(tmp_path: Path) -> None:
    chance, tables = random.Random(5), fill(tmp_path)
    before = tables.read("flights", 4)
    files = sorted((tmp_path / "flights").glob("*.parquet"))
    assert list(tables.check()) == []
    for number in range(100):
        file = chance.choice(files)
        whole = file.read_bytes()
        content = bytearray(whole)
        match number % 4:
            case 0 | 1:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            case 2:
                del content[chance.randrange(len(content)) :]
            case 3:
                content[:] = chance.choice([other for other in files if other != file]).read_bytes()
        file.write_bytes(content)
        for opened in (tables, DeltaTables(str(tmp_path))):  # also where the file was verified before
            (damage,) = opened.check()
            assert (damage.name, damage.state) == (f"flights/{file.name}", "damaged")
            with pytest.raises(Corrupt, match=file.name) as raised:
                opened.read("flights", 4)
            assert "doctor --mend --backup" in (raised.value.cure or "")
        assert not tables.put_back(f"flights/{file.name}", bytes(content))
        assert tables.put_back(f"flights/{file.name}", whole)
    assert tables.read("flights", 4).equals(before)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    tables = fill(tmp_path)
    file = sorted((tmp_path / "flights").glob("*.parquet"))[2]
    file.unlink()
    with pytest.raises(Corrupt, match=f"{file.name} was written and is gone"):
        tables.read("flights", 4)
    assert [damage.state for damage in tables.damages()] == ["missing"]


def test_damaged_entries_of_the_log_are_each_named_and_no_row_disappears(tmp_path: Path) -> None:
    chance, tables = random.Random(7), fill(tmp_path)
    before = tables.read("flights", 4)
    entries = sorted((tmp_path / "flights" / "_delta_log").glob("*.json"))
    for number in range(50):
        file = entries[-1] if number % 10 == 0 else chance.choice(entries)
        whole = file.read_bytes()
        content = bytearray(whole)
        match number % 5:
            case 0:
                file.unlink()
            case 1:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            case 2:
                del content[chance.randrange(len(content)) :]
            case 3:
                content[:] = chance.choice([other for other in entries if other != file]).read_bytes()
            case 4:
                content.clear()
        if number % 5:
            file.write_bytes(content)
        for opened in (tables, DeltaTables(str(tmp_path))):  # also where the table was opened before
            (damage,) = opened.check()
            assert damage.name == f"flights/_delta_log/{file.name}"
            with pytest.raises(Corrupt, match=file.name):
                opened.read("flights", opened.version("flights"))
            with pytest.raises(Corrupt, match=file.name):
                opened.append("flights", "another", pl.DataFrame({"delay": [1], "dest": ["JFK"]}))
        assert tables.put_back(damage.name, whole)
        assert list(tables.check()) == []
    assert tables.read("flights", 4).equals(before)


def test_a_log_that_cannot_be_read_for_another_reason_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "flights" / CHECKSUMS).unlink()
    (tmp_path / "flights" / "_delta_log" / f"{2:020}.json").write_text("{")
    tables = DeltaTables(str(tmp_path))
    assert [(each.name, each.state) for each in tables.check()] == [("flights/_delta_log", "damaged")]
    with pytest.raises(Corrupt, match="table 'flights' cannot be opened"):
        tables.version("flights")


def test_an_erased_entry_of_the_log_is_right_before_and_after_its_change(tmp_path: Path) -> None:
    tables = fill(tmp_path)
    logs = {log: log.read_bytes() for log in (tmp_path / "flights" / "_delta_log").glob("*.json")}
    person = int(tables.read("flights", 4)["delay"][500])
    tables.erase("flights", lambda rows: rows["delay"] == person)
    assert list(DeltaTables(str(tmp_path)).check()) == []
    (changed,) = [log for log, before in logs.items() if log.read_bytes() != before]
    changed.write_bytes(logs[changed])  # killed before the entry was replaced
    assert list(DeltaTables(str(tmp_path)).check()) == []


def test_a_table_of_an_earlier_version_is_read_and_gets_its_checksums_when_it_is_written(tmp_path: Path) -> None:
    fill(tmp_path)
    log = tmp_path / "flights" / CHECKSUMS
    log.unlink()
    tables = DeltaTables(str(tmp_path))
    assert tables.read("flights", 4).height == 1500
    file = sorted((tmp_path / "flights").glob("*.parquet"))[0]
    whole = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(Corrupt, match="is no Parquet file"):
        DeltaTables(str(tmp_path)).read("flights", 4)
    file.write_bytes(whole)
    tables.append("flights", "another", pl.DataFrame({"delay": [1], "dest": ["JFK"]}))
    assert len(log.read_text().splitlines()) == 12, "six files with rows, and six entries of the log"


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_log_of_checksums_accuses_no_file(tmp_path: Path, damage: str) -> None:
    fill(tmp_path)
    log = tmp_path / "flights" / CHECKSUMS
    content = bytearray(log.read_bytes())
    if damage == "flip":
        content[20] ^= 1
    log.write_bytes(bytes({"cut": content[:-7], "flip": content, "empty": bytearray()}[damage]))
    opened = DeltaTables(str(tmp_path))
    assert list(opened.check()) == []
    assert opened.read("flights", 4).height == 1500
    opened.append("flights", "another", pl.DataFrame({"delay": [1], "dest": ["JFK"]}))
    assert list(DeltaTables(str(tmp_path)).check()) == []


def test_compaction_and_erasure_leave_only_files_with_checksums(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path))
    for day in range(51):
        tables.append("flights", f"day {day}", pl.DataFrame({"delay": [day]}))
    tables.erase("flights", lambda rows: rows["delay"] == 7)
    opened = DeltaTables(str(tmp_path))
    assert list(opened.check()) == []
    recorded = (tmp_path / "flights" / CHECKSUMS).read_text()
    table = opened._open("flights")
    assert table is not None
    assert all(uri.rpartition("/")[2] in recorded for uri in table.file_uris())


@pytest.mark.parametrize("rewrite", ["erase", "widen", "compact"])
def test_damaged_rows_are_never_written_again_under_a_new_checksum(tmp_path: Path, rewrite: str) -> None:
    tables = DeltaTables(str(tmp_path))
    for day in range(48 if rewrite == "compact" else 3):
        tables.append("flights", f"day {day}", pl.DataFrame({"delay": [day]}))
    file = sorted((tmp_path / "flights").glob("*.parquet"))[1]
    whole = file.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    opened = DeltaTables(str(tmp_path))
    with pytest.raises(Corrupt, match=file.name):
        _rewrite(opened, rewrite)
    assert opened.put_back(f"flights/{file.name}", whole)
    assert list(opened.check()) == []


def _rewrite(tables: DeltaTables, how: str) -> None:
    if how == "erase":
        tables.erase("flights", lambda rows: rows["delay"] == 2)
    elif how == "widen":
        tables.append("flights", "wider", pl.DataFrame({"delay": [2.5]}))
    else:
        for day in (48, 49):
            tables.append("flights", f"day {day}", pl.DataFrame({"delay": [day]}))
