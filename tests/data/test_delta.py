"""Delta tables of other writers: rows, names, types and partitions are those of the log, as in Delta's own reader."""

import json
import re
import shutil
import struct
import zlib
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import DataError

NOW = datetime(2100, 1, 1, tzinfo=UTC)
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
VECTOR_FILE = UUID("d2c639aa-8816-431a-aaf6-d3fe2512ff61")


def encode_z85(content: bytes) -> str:
    encoded = ""
    for start in range(0, len(content), 4):
        value, digits = int.from_bytes(content[start : start + 4], "big"), ""
        for _ in range(5):
            value, digit = divmod(value, 85)
            digits = Z85[digit] + digits
        encoded += digits
    return encoded


def encode_bitmap(deleted: list[int]) -> bytes:
    """Return a bitmap of rows as the Delta protocol defines it: one RoaringBitmap with one array container."""
    head = struct.pack("<IQI", 1681511377, 1, 0) + struct.pack("<II", 12346, 1)
    return head + struct.pack("<HHI", 0, len(deleted) - 1, 16) + struct.pack(f"<{len(deleted)}H", *deleted)


class OtherWriter:
    """Writes a Delta table as Spark does: with column mapping and deletion vectors, action by action."""

    def __init__(self, folder: Path, mapping: str = "", features: tuple[str, ...] = ("deletionVectors",)) -> None:
        self.folder = folder
        self.mapping = mapping
        self.features = [*features, *(["columnMapping"] if mapping else [])]
        self.names = {"c1": "number", "c2": "kind", "c3": "detail"} if mapping else {}
        self.files: dict[str, list[int]] = {}
        self.kinds: dict[str, str | None] = {}
        self.version = -1
        (folder / "_delta_log").mkdir(parents=True)
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
        self.commit(
            {"protocol": protocol | dict.fromkeys(("readerFeatures", "writerFeatures"), self.features)}, self.metadata()
        )

    def commit(self, *actions: dict[str, Any], operation: str = "WRITE") -> None:
        self.version += 1
        info = {"commitInfo": {"timestamp": 1700000000000 + self.version, "operation": operation}}
        lines = [json.dumps(action) + "\n" for action in (info, *actions) if operation or action is not info]
        (self.folder / "_delta_log" / f"{self.version:020d}.json").write_text("".join(lines))

    def physical(self, name: str) -> str:
        return {"number": "c1", "kind": "c2", "detail": "c3", "inner": "d1"}[name] if self.mapping else name

    def metadata(self) -> dict[str, Any]:
        inner = {"name": "inner", "type": "long", "nullable": True, "metadata": self.mapped(4, "d1")}
        fields = [
            {"name": self.names.get("c1", "number"), "type": "long", "metadata": self.mapped(1, "c1")},
            {"name": self.names.get("c2", "kind"), "type": "date", "metadata": self.mapped(2, "c2")},
            {
                "name": self.names.get("c3", "detail"),
                "type": {"type": "struct", "fields": [inner]},
                "metadata": self.mapped(3, "c3"),
            },
        ]
        configuration = {"delta.columnMapping.mode": self.mapping, "delta.columnMapping.maxColumnId": "4"}
        return {
            "metaData": {
                "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": [{"nullable": True} | f for f in fields]}),
                "partitionColumns": [self.names.get("c2", "kind")],
                "configuration": configuration if self.mapping else {},
                "createdTime": 1700000000000,
            }
        }

    def mapped(self, identity: int, physical: str) -> dict[str, Any]:
        if not self.mapping:
            return {}
        return {"delta.columnMapping.id": identity, "delta.columnMapping.physicalName": physical}

    def append(self, *numbers: int, kind: str | None = "2024-05-01", operation: str = "WRITE") -> str:
        """Append a file with these numbers; return its path."""
        path = f"f{self.version + 1}.parquet"
        inner, name = self.physical("inner"), self.physical("detail")
        detail = [{inner: number} if number % 3 else None for number in numbers]
        types: dict[str, pl.DataType] = {self.physical("number"): pl.Int64(), name: pl.Struct({inner: pl.Int64})}
        pl.DataFrame({self.physical("number"): numbers, name: detail}, types).write_parquet(self.folder / path)
        self.files[path] = []
        self.kinds[path] = kind
        self.commit({"add": self.added(path)}, operation=operation)
        return path

    def added(self, path: str) -> dict[str, Any]:
        return {
            "path": path,
            "partitionValues": {self.physical("kind"): self.kinds[path]},
            "size": (self.folder / path).stat().st_size,
            "modificationTime": 1700000000000 + self.version,
            "dataChange": True,
            "stats": json.dumps({"numRecords": pl.read_parquet(self.folder / path).height}),
        }

    def delete(self, path: str, *rows: int, in_file: bool = False, operation: str = "DELETE") -> None:
        """Delete rows of a file by a deletion vector, in the log or in a file of its own."""
        earlier = self.files[path]
        self.files[path] = sorted({*earlier, *rows})
        removed = {"path": path, "dataChange": True, "deletionTimestamp": 1700000000000}
        if earlier:
            removed["deletionVector"] = self.vector(earlier)
        added = self.added(path) | {"deletionVector": self.vector(self.files[path], in_file=in_file)}
        self.commit({"remove": removed}, {"add": added}, operation=operation)

    def vector(self, deleted: list[int], *, in_file: bool = False) -> dict[str, Any]:
        body = encode_bitmap(deleted)
        known = {"sizeInBytes": len(body), "cardinality": len(deleted)}
        if not in_file:
            padded = body + bytes(-len(body) % 4)
            return {"storageType": "i", "pathOrInlineDv": encode_z85(padded)} | known
        content = b"\1" + struct.pack(">I", len(body)) + body + struct.pack(">I", zlib.crc32(body))
        (self.folder / f"deletion_vector_{VECTOR_FILE}.bin").write_bytes(content)
        return {"storageType": "u", "pathOrInlineDv": encode_z85(VECTOR_FILE.bytes), "offset": 1} | known

    def rename(self, physical: str, name: str) -> None:
        self.names[physical] = name
        self.commit(self.metadata(), operation="RENAME COLUMN")


def read_batches(folder: Path) -> list[pl.DataFrame]:
    sources = FileSources(folder.parent, {"rows": Source(path=folder.name, kind="delta")})
    return [sources.raw(batch) for batch in sources.batches("rows", NOW)]


def count_rows(frames: list[pl.DataFrame]) -> Counter[str]:
    """Count the rows by their content; the order of files and of columns within a row does not matter."""
    return Counter(str(sorted(row.items())) for frame in frames for row in frame.to_dicts())


def read_by_delta(folder: Path) -> list[pl.DataFrame]:
    return [pl.DataFrame(DeltaTable(folder).scan())]


@pytest.mark.parametrize("in_file", [False, True], ids=["in the log", "in a file"])
def test_rows_deleted_by_a_deletion_vector_are_absent(tmp_path: Path, in_file: bool) -> None:
    writer = OtherWriter(tmp_path / "see in 北京")
    path = writer.append(*range(10))
    assert [frame["number"].to_list() for frame in read_batches(writer.folder)] == [list(range(10))]
    writer.delete(path, 0, 3, 9, in_file=in_file)
    writer.append(20)
    remaining = [[1, 2, 4, 5, 6, 7, 8], [20]]
    assert [frame["number"].to_list() for frame in read_batches(writer.folder)] == remaining


@pytest.mark.parametrize("mapping", ["name", "id"])
def test_columns_of_a_table_with_column_mapping_have_their_names_in_the_log(tmp_path: Path, mapping: str) -> None:
    writer = OtherWriter(tmp_path / "lake", mapping)
    writer.append(1, 2)
    writer.append(3, kind=None)
    first, second = read_batches(writer.folder)
    assert first.rows(named=True) == [
        {"number": 1, "kind": date(2024, 5, 1), "detail": {"inner": 1}},
        {"number": 2, "kind": date(2024, 5, 1), "detail": {"inner": 2}},
    ]
    assert second.rows(named=True) == [{"number": 3, "kind": None, "detail": None}]
    writer.rename("c1", "id")
    (renamed,) = read_batches(writer.folder)  # accepted rows have the earlier name, so all rows are read again
    assert sorted(renamed["id"]) == [1, 2, 3]


def test_a_file_that_only_column_ids_resolve_is_an_error(tmp_path: Path) -> None:
    writer = OtherWriter(tmp_path / "lake", "id")
    file = tmp_path / "lake" / writer.append(1)
    pl.read_parquet(file).rename({"c1": "other"}).write_parquet(file)
    with pytest.raises(DataError, match="no column 'c1' but 'other': column mapping by id"):
        read_batches(writer.folder)


def test_a_table_that_is_created_again_is_a_new_history(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    sources = FileSources(tmp_path, {"rows": Source(path="lake")})
    identities = set()
    for number in (1, 2):
        write_deltalake(lake, pl.DataFrame({"number": [number]}))
        (batch,) = sources.batches("rows", NOW)
        assert sources.raw(batch)["number"].to_list() == [number]
        identities.add(batch.id)
        shutil.rmtree(lake)
    assert len(identities) == 2


def test_an_operation_of_any_name_or_of_none_is_followed(tmp_path: Path) -> None:
    writer = OtherWriter(tmp_path / "lake")
    path = writer.append(1, 2, operation="Manual Update")
    writer.append(3, operation="")
    assert [frame["number"].to_list() for frame in read_batches(writer.folder)] == [[1, 2], [3]]
    writer.delete(path, 0, operation="")
    assert count_rows(read_batches(writer.folder)) == count_rows(read_by_delta(writer.folder))


@pytest.mark.parametrize("feature", ["variantType", "catalogManaged", "notYetInvented"])
def test_a_reader_feature_that_cannot_be_read_is_named(tmp_path: Path, feature: str) -> None:
    writer = OtherWriter(tmp_path / "lake", features=("deletionVectors", feature))
    writer.append(1)
    with pytest.raises(DataError, match="catalog|" + feature) as error:
        read_batches(writer.folder)
    assert "copy its rows into a table without it" in error.value.cure


PARTITIONS: dict[str, list[Any]] = {
    "text": ["007", "A1", "a b/ü%2F=x", None],
    "date": [date(2024, 1, 1), None],
    "decimal": [Decimal("1.50"), Decimal("12.34")],
    "time": [datetime(2024, 1, 1, 3, 4, 5, 123456, tzinfo=UTC), None],
    "flag": [True, False, None],
    "integer": [2**53 + 1, -1],
}


@pytest.mark.parametrize("values", PARTITIONS.values(), ids=PARTITIONS)
def test_partition_values_have_the_type_of_the_log(tmp_path: Path, values: list[Any]) -> None:
    for number in range(len(values)):
        frame = pl.DataFrame({"number": [number], "part": pl.Series(values)[number : number + 1]})
        write_deltalake(tmp_path / "lake", frame, partition_by=["part"], mode="append")
    frames = read_batches(tmp_path / "lake")
    assert [frame["part"][0] for frame in frames] == values
    assert count_rows(frames) == count_rows(read_by_delta(tmp_path / "lake"))


def test_a_column_that_is_newer_than_a_file_is_null_in_it(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "lake", pl.DataFrame({"old": [1, 2]}))
    write_deltalake(tmp_path / "lake", pl.DataFrame({"new": [1.5]}), mode="append", schema_mode="merge")
    DeltaTable(tmp_path / "lake").delete("new > 1")
    (whole,) = read_batches(tmp_path / "lake")
    assert whole.rows(named=True) == [{"old": 1, "new": None}, {"old": 2, "new": None}]


STEPS = ("append", "delete", "update", "overwrite", "overwrite part", "merge", "compact", "restore")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), min_size=1, max_size=7))
def test_the_batches_of_any_history_are_the_rows_of_delta_itself(steps: list[tuple[str, int]]) -> None:
    def rows(*numbers: int) -> pl.DataFrame:
        parts = [["007", "x y", None][number % 3] for number in numbers]
        return pl.DataFrame({"number": numbers, "part": parts}, {"number": pl.Int64, "part": pl.String})

    with TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write_deltalake(lake, rows(0, 1, 2), partition_by=["part"])
        for step, number in steps:
            table = DeltaTable(lake)
            if step == "append":
                write_deltalake(lake, rows(number, number + 1), mode="append")
            elif step == "delete":
                table.delete(f"number = {number}")
            elif step == "update":
                table.update(predicate=f"number = {number}", updates={"number": f"{number + 10}"})
            elif step == "overwrite":
                write_deltalake(lake, rows(number), mode="overwrite")
            elif step == "overwrite part":
                write_deltalake(lake, rows(1), mode="overwrite", predicate="part = 'x y'")
            elif step == "merge":
                merge = table.merge(rows(number, 50), "old.number = new.number", source_alias="new", target_alias="old")
                merge.when_matched_delete().when_not_matched_insert_all().execute()
            elif step == "compact":
                table.optimize.compact()
            elif table.version():
                table.restore(number % table.version())
            assert count_rows(read_batches(lake)) == count_rows(read_by_delta(lake)), step


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    mapping=st.sampled_from(["", "name", "id"]),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.sets(st.integers(0, 5), min_size=1)), max_size=8),
)
def test_the_batches_of_another_writer_are_the_rows_of_delta_itself(
    mapping: str, steps: list[tuple[bool, int, set[int]]]
) -> None:
    with TemporaryDirectory() as folder:
        writer = OtherWriter(Path(folder) / "lake", mapping)
        paths = [writer.append(*range(6))]
        for appends, number, deleted in steps:
            if appends:
                paths.append(writer.append(*range(number, number + 6), kind=None if number > 5 else "2023-12-31"))
            else:
                writer.delete(paths[number % len(paths)], *deleted)
            if mapping and number == 9:
                writer.rename("c1", f"number {writer.version}")
            assert count_rows(read_batches(writer.folder)) == count_rows(read_by_delta(writer.folder))


@pytest.mark.parametrize("time", [2**63 - 1, -(2**62), 10**17])
def test_a_commit_with_a_time_that_is_none_is_refused(tmp_path: Path, time: int) -> None:
    write_deltalake(tmp_path / "t", pl.DataFrame({"a": [1]}))
    (log,) = (tmp_path / "t" / "_delta_log").glob("*.json")
    log.write_text(re.sub(r'("commitInfo":\{"timestamp":)\d+', rf"\g<1>{time}", log.read_text()))
    sources = FileSources(tmp_path, {"rows": Source(path="t", kind="delta")})
    with pytest.raises(DataError, match="which is no date"):
        sources.batches("rows", NOW)


def test_a_table_in_an_object_store_is_followed(s3_url: str, tmp_path: Path) -> None:
    lake = f"{s3_url}/lakes/one"
    frame = pl.DataFrame({"number": [1, 2], "part": ["007", None]})
    write_deltalake(lake, frame, partition_by=["part"])
    write_deltalake(lake, frame.with_columns(number=pl.col("number") + 10), mode="append")
    sources = FileSources(tmp_path, {"rows": Source(path=lake, kind="delta")})
    batches = [sources.raw(batch) for batch in sources.batches("rows", NOW)]
    assert [sorted(batch["number"]) for batch in batches] == [[1, 2], [11, 12]]
    DeltaTable(lake).delete("number = 1")
    (whole,) = [sources.raw(batch) for batch in sources.batches("rows", NOW)]
    assert count_rows([whole]) == count_rows([pl.DataFrame(DeltaTable(lake).scan())])
