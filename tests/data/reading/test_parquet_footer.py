"""The footer of a Parquet file states what PyArrow reads in it; a damaged one states nothing, and never hangs."""

import io
import random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.data.reading.parquet_footer import read_footer


def test_it_states_what_pyarrow_reads() -> None:
    nested = pa.table({"a": range(100), "l": [[1, 2, 3]] * 100, "s": [{"u": 1, "v": "2"}] * 100, "n": [None] * 100})
    file = io.BytesIO()
    pq.write_table(nested, file, row_group_size=30)
    metadata = pq.read_metadata(file)
    chunks = [metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(5)]
    footer = read_footer(file.getvalue())
    assert footer is not None
    assert (footer.rows, footer.columns) == (metadata.num_rows, metadata.num_columns)
    assert footer.values == sum(chunk.num_values for chunk in chunks)
    assert footer.stored_bytes == sum(chunk.total_uncompressed_size for chunk in chunks)


def test_a_damaged_footer_states_nothing_or_numbers() -> None:
    file = io.BytesIO()
    pl.DataFrame({"a": [1, 2], "t": ["x", "y"]}).write_parquet(file)
    content = file.getvalue()
    assert read_footer(content) is not None
    assert read_footer(b"PAR1") is None
    chance = random.Random(1)
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[chance.randrange(len(damaged) - 4)] = chance.randrange(256)
        read_footer(bytes(damaged))
