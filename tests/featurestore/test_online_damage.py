"""Damage in the file of the online store: no wrong value is served, each damaged row is named, the rest is kept."""

import random
from pathlib import Path

import msgspec
import pytest

from tidemill.errors import Corrupt, StoreMissing
from tidemill.featurestore.online import SqliteOnline
from tidemill.featurestore.packing import pack, unpack
from tidemill.testing.online import NOON

TRIES = 300
ENTITIES = [f"customer-{number}" for number in range(400)]
VALUES = {entity: {"spent": float(number), "visits": number} for number, entity in enumerate(ENTITIES)}


def write_store(file: Path) -> bytes:
    online = SqliteOnline(file)
    online.write("shop", [(entity, NOON, values) for entity, values in VALUES.items()])
    online.write("weather", [("JFK", NOON, {"wind": 1.0})])
    online._connection().close()
    return file.read_bytes()


def test_300_damaged_files_give_no_wrong_value_and_are_named(tmp_path: Path) -> None:
    chance = random.Random(3)
    whole = write_store(tmp_path / "whole.db")
    found = 0
    for number in range(TRIES):
        content = bytearray(whole)
        way = chance.choice(["flip"] * 8 + ["cut", "empty"])
        if way == "flip":
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif way == "cut":
            del content[chance.randrange(1, len(content)) :]
        else:
            content.clear()
        file = tmp_path / f"{number}.db"
        file.write_bytes(content)
        online, wrong, named = SqliteOnline(file), 0, 0
        for entity in ENTITIES:
            try:
                (read,) = online.read("shop", [entity])
            except Corrupt:
                named += 1
            else:
                wrong += read != (NOON, VALUES[entity])
        assert not wrong, (number, way)
        if named:
            assert list(online.check()), (number, way)
            found += 1
        if named and number % 15 == 0:  # each commit waits for the disk
            online.drop_damaged()
            assert not list(online.check())
            kept = online.read("shop", ENTITIES)
            assert all(read in (None, (NOON, VALUES[e])) for e, read in zip(ENTITIES, kept, strict=True))
            online.write("shop", [(entity, NOON, values) for entity, values in VALUES.items()])
            assert online.read("shop", ENTITIES) == [(NOON, VALUES[entity]) for entity in ENTITIES]
        file.unlink()
    assert found > 150


def test_a_row_with_a_damaged_key_is_noticed_where_it_should_be(tmp_path: Path) -> None:
    file = tmp_path / "online.db"
    write_store(file)
    content = file.read_bytes()
    assert content.count(b"shopcustomer-177") == 1
    file.write_bytes(content.replace(b"shopcustomer-177", b"shopcustomer-17w"))
    online = SqliteOnline(file)
    with pytest.raises(Corrupt, match="customer-17w"):
        online.read("shop", ["customer-177"])
    assert online.read("shop", ["customer-3"]) == [(NOON, VALUES["customer-3"])]
    assert online.read("shop", ["unknown"]) == [None]
    assert [damage.name for damage in online.check()] == ["online.db", "shop/customer-17w"]


def test_rows_of_an_earlier_version_are_read() -> None:
    time = NOON.timestamp()
    assert unpack("shop", "a", time, msgspec.msgpack.encode({"x": 1})) == (NOON, {"x": 1})
    row = pack("shop", "a", time, {"x": 1})
    for place in range(len(row)):
        for bit in range(8):
            damaged = bytearray(row)
            damaged[place] ^= 1 << bit
            with pytest.raises(Corrupt):
                unpack("shop", "a", time, bytes(damaged))
    with pytest.raises(Corrupt):
        unpack("shop", "b", time, row)


def test_a_deleted_file_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    file = tmp_path / "online.db"
    write_store(file)
    online = SqliteOnline(file)
    assert online.read("shop", ["customer-3"]) == [(NOON, VALUES["customer-3"])]
    aside = file.rename(tmp_path / "aside.db")
    with pytest.raises(StoreMissing, match="missing"):
        online.read("shop", ["customer-3"])
    assert not file.exists()
    aside.rename(file)
    assert online.read("shop", ["customer-3"]) == [(NOON, VALUES["customer-3"])]
