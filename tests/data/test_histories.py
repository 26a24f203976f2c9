"""The history of a source has the rows that the ingestion of its files gives, with the same types."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema
from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.columns import is_internal
from tidemill.core.source import Source
from tidemill.data.source import FileSources

NOW = datetime(2100, 1, 1, tzinfo=UTC)
SOURCE = Source(path="*.csv")
WRITINGS = ["1.50", "007", "1e5", "12", "true", "2013-01-31", "word", "+4", " 5"]


def write_files(folder: Path, files: list[list[str]]) -> None:
    for number, codes in enumerate(files):
        lines = [f"{code},{row}" for row, code in enumerate(codes)]
        (folder / f"{number}.csv").write_text("\n".join(["code,row", *lines, ""]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WRITINGS), min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_column_of_text_keeps_its_writing_in_every_file(files: list[list[str]]) -> None:
    files = [["word", "1.50"], *files]
    with TemporaryDirectory() as folder:
        write_files(Path(folder), files)
        history = FileSources(Path(folder), {"rows": SOURCE}).source_history("rows")
    assert sorted(history["code"]) == sorted(code for codes in files for code in codes)


@pytest.mark.parametrize("known", [False, True], ids=["before the first ingestion", "with an accepted schema"])
@settings(max_examples=40, deadline=None)
@given(files=st.lists(st.lists(st.sampled_from(WRITINGS), min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_history_equals_the_ingested_rows(files: list[list[str]], known: bool) -> None:
    with TemporaryDirectory() as folder:
        write_files(Path(folder), files)
        sources = FileSources(Path(folder), {"rows": SOURCE})
        batches = sources.batches("rows", NOW)
        schema = infer_schema(sources.read(batches[0]), "rows")
        schema = replace(
            schema, columns=tuple(replace(one, domain=None, low=None, high=None) for one in schema.columns)
        )
        ingested = []
        for batch in batches:
            rows = sources.read(replace(batch, types=schema.types))
            verdict, _ = check_table(rows, schema, batch.id)
            if not verdict.stops:
                ingested.append(convert_to_schema(rows, schema))
        if len(ingested) < len(batches):
            return
        if known:
            sources = FileSources(Path(folder), {"rows": SOURCE}, schemas=lambda _: schema)
        history = sources.source_history("rows")
    columns = [name for name in history.columns if not is_internal(name)]
    stacked = [row for rows in ingested for row in rows.select(columns).rows()]
    assert convert_to_schema(history, schema).select(columns).rows() == stacked
