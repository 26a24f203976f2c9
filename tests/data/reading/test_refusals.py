"""Files that cannot be read are refused with the fault and a cure, and a file that follows the cure is read."""

from pathlib import Path

import pytest

from tidemill.data.tables import read_table
from tidemill.errors import Unreadable

CURED = {
    "half of a character": ("a.jsonl", b'{"a": "\\ud83d"}\n', b'{"a": "\\ud83d\\ude42"}\n'),
    "is empty": ("a.json", b"[]", b'[{"a": 1}]'),
    "a carriage return is within": ("a.csv", b"a,b\r1,2\n3,4\n", b"a,b\n1,2\n3,4\n"),
    "levels deep": ("a.jsonl", b"[" * 100_000, b'{"a": 1}'),
}


@pytest.mark.parametrize("fault", CURED)
def test_a_file_that_cannot_be_read_names_its_fault(fault: str, tmp_path: Path) -> None:
    name, refused, cured = CURED[fault]
    (tmp_path / name).write_bytes(refused)
    with pytest.raises(Unreadable, match=fault) as error:
        read_table(tmp_path / name)
    assert error.value.cure
    (tmp_path / name).write_bytes(cured)
    assert read_table(tmp_path / name).height
