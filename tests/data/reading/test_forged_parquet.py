"""Parquet files with false numbers and bytes: each is read or refused by name, and none ends the process."""

import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.data.reading.forging import make_file, replace_in_footer, replace_in_page
from tidemill.core.dialect import Dialect
from tidemill.data.learning import learn_table
from tidemill.data.reading.bounds import Bounds
from tidemill.data.reading.parts import survey_parts
from tidemill.data.tables import parse_table, read_table
from tidemill.errors import Unreadable

_ROOT = Path(__file__).parents[3]
_BOUNDS = Bounds("rows", 1_000_000, 512)
_MANY = """
import json, resource, sys
from pathlib import Path
from tests.data.reading.forging import forge, make_file
from tidemill.core.dialect import Dialect
from tidemill.data.learning import learn_table
from tidemill.data.reading.bounds import Bounds
from tidemill.data.tables import parse_table, read_table
from tidemill.errors import DataError

resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
file, bounds = Path(sys.argv[1]), Bounds("rows", 1_000_000, 512)
files = [make_file(compression=name) for name in ("zstd", "snappy", "uncompressed", "gzip", "lz4")]
counts = {"read": 0, "refused": 0}
for seed in range(int(sys.argv[2])):
    Path(sys.argv[3]).write_text(str(seed))
    file.write_bytes(forge(files[seed % len(files)], seed))
    try:
        read_table(file, bounds=bounds) if seed % 2 else learn_table(file)
        counts["read"] += 1
    except DataError as error:
        assert str(file) in error.problem and error.cure, (seed, error)
        counts["refused"] += 1
print(json.dumps(counts))
"""
_CHUNK, _GROUP = (4, 0, 1, 1, 3), (4, 0)
FORGED = {
    "rows": (replace_in_footer, (3,), 2 * 10**12),
    "negative rows": (replace_in_footer, (3,), -1),
    "rows of a group": (replace_in_footer, (*_GROUP, 3), 10**12),
    "negative values": (replace_in_footer, (*_CHUNK, 5), -200),
    "values": (replace_in_footer, (*_CHUNK, 5), 10**12),
    "fewer values": (replace_in_footer, (*_CHUNK, 5), 1),
    "size": (replace_in_footer, (*_CHUNK, 7), 2**62),
    "negative size": (replace_in_footer, (*_CHUNK, 7), -5),
    "size of everything": (replace_in_footer, (*_CHUNK, 6), 2**62),
    "offset after the end": (replace_in_footer, (*_CHUNK, 9), 2**40),
    "negative offset": (replace_in_footer, (*_CHUNK, 9), -1),
    "offset in another column": (replace_in_footer, (*_CHUNK, 9), 5),
    "values of a page": (replace_in_page, (5, 1), 2**31 - 1),
    "negative values of a page": (replace_in_page, (5, 1), -1),
    "bytes of a page": (replace_in_page, (2,), 2**31 - 1),
    "negative bytes of a page": (replace_in_page, (2,), -1),
    "stored bytes of a page": (replace_in_page, (3,), 2**31 - 1),
    "kind of a page": (replace_in_page, (1,), 77),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_false_number_is_refused_by_every_reader(case: str, tmp_path: Path) -> None:
    forge, field, number = FORGED[case]
    file = tmp_path / "rows.parquet"
    file.write_bytes(forge(make_file(), field, number))
    readers = (
        lambda: read_table(file, bounds=_BOUNDS),
        lambda: learn_table(file),
        lambda: list(survey_parts(file, "parquet", Dialect(), {}, _BOUNDS).iterate()),
    )
    for read in readers:
        with pytest.raises(Unreadable) as refused:
            read()
        assert str(file) in refused.value.problem
        assert refused.value.cure


def test_forged_files_never_end_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MANY, str(tmp_path / "forged.parquet"), "150", str(tmp_path / "seed")]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"seed {(tmp_path / 'seed').read_text()}: {done.stderr[-2000:]}"
    counts = json.loads(done.stdout)
    assert min(counts.values()) > 15, counts


def test_files_of_other_writers_are_read() -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    frame = pl.read_parquet(io.BytesIO(make_file(2000)))
    for version in ("1.0", "2.0"):
        for compression in ("none", "snappy", "gzip", "zstd", "brotli"):
            sink = io.BytesIO()
            arrow.write_table(
                frame.to_arrow(),
                sink,
                data_page_version=version,
                compression=compression,
                data_page_size=512,
                row_group_size=700,
            )
            assert parse_table(io.BytesIO(sink.getvalue()), "rows.parquet", bounds=_BOUNDS).height == 2000
