"""The identity of a requested row: its key and its event time."""

from collections.abc import Sequence

import polars as pl

from tidemill.core.model import Input, Manifest
from tidemill.data.keys import to_key_text, to_row_keys
from tidemill.data.rows import RowReader
from tidemill.data.timestamps import TIMESTAMP


def read_keys(frame: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the key of each row: its key columns as text, joined by `|`; empty if a column is absent or null."""
    if not names or not set(names) <= set(frame.columns):
        return [""] * frame.height
    return to_row_keys(frame, names).fill_null("").to_list()


def read_regimes(frame: pl.DataFrame, key: str) -> pl.Series | None:
    """Return the value of the regimes' key of each row as text, null if it has none; None if there is no such key."""
    if not key:
        return None
    if key not in frame.columns:
        return pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    return to_key_text(frame[key])


def read_event_times(frame: pl.DataFrame, name: str, default: pl.Series) -> pl.Series:
    """Return the event time of each row (UTC): its column `name`, or `default` if that is absent or null."""
    if name not in frame.columns:
        return default
    times = RowReader([Input(name=name, type="time")]).read_frame(frame)[name]
    return times if not times.null_count() else times.zip_with(times.is_not_null(), default)


def fill_event_times(rows: pl.DataFrame, manifest: Manifest, known_at: pl.Series) -> pl.DataFrame:
    """Fill the event time if it is an input of the model and a row lacks it: with the time of the request."""
    name = manifest.time
    if name not in {column.name for column in manifest.signature.inputs}:
        return rows
    requested = known_at.cast(TIMESTAMP)
    if name not in rows.columns:
        return rows.with_columns(requested.alias(name))
    if not rows[name].null_count() or not isinstance(rows.schema[name], pl.Datetime):
        return rows
    return rows.with_columns(pl.col(name).fill_null(requested.cast(rows.schema[name])))
