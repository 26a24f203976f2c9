"""Small files that describe large tables are refused before their tables are made."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.data.reading.bounds import Bounds
from tidemill.data.tables import read_table
from tidemill.errors import TooMuchMemory, Unreadable

_WIDE = ",".join(f"c{number}" for number in range(9_999)) + "\n"
BOMBS: dict[str, tuple[Callable[[], str], str]] = {
    "short.csv": (lambda: _WIDE + "1\n" * 20_000, "line 2 of"),
    "commas.csv": (lambda: _WIDE + f"{',' * 9_998}\n" * 700, "701 rows of 9,999 values"),
    "names.jsonl": (lambda: "".join(f'{{"k{n}": 1}}\n' for n in range(5_000)), "rows of 5,000 values"),
    "nested.jsonl": (lambda: "".join(f'{{"a": {{"k{n}": 1}}}}\n' for n in range(5_000)), "rows of 5,001 values"),
    "names.json": (lambda: "[" + ",".join(f'{{"k{n}": 1}}' for n in range(5_000)) + "]", "rows of 5,000 values"),
    "many.jsonl": (lambda: "".join(f'{{"k{n}": 1}}\n' for n in range(10_001)), "10,001 columns"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_a_large_table_is_refused(name: str, tmp_path: Path) -> None:
    write, problem = BOMBS[name]
    (tmp_path / name).write_text(write())
    began = time.process_time()
    with pytest.raises(Unreadable, match=problem):
        read_table(tmp_path / name, bounds=Bounds("rows", 1_000_000, 100))
    assert time.process_time() - began < 30


def test_sparse_records_and_empty_cells_within_the_bounds_are_read(tmp_path: Path) -> None:
    records = [f'{{"id": {number}, "k{number % 50}": {{"a": "x: y"}}}}\n' for number in range(2_000)]
    (tmp_path / "sparse.jsonl").write_text("".join(records))
    assert read_table(tmp_path / "sparse.jsonl", bounds=Bounds("rows", 10_000, 100)).shape == (2_000, 51)
    with pytest.raises(TooMuchMemory):
        read_table(tmp_path / "sparse.jsonl", bounds=Bounds("rows", 10_000, 10))
    (tmp_path / "lines.csv").write_text('a,b\n"1\n\n\n",\n' * 2_000)
    assert read_table(tmp_path / "lines.csv", bounds=Bounds("rows", 100_000, 1)).shape == (3_999, 2)
