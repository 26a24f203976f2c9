"""What names a row that was asked about: its key and its event time."""

from collections.abc import Sequence

import polars as pl

from tidemill.core.model import Input, Manifest
from tidemill.data.keys import row_keys
from tidemill.data.moments import MOMENT
from tidemill.data.rows import RowReader


def keys_of(frame: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """The key of each row: its key columns as text, joined by `|`; empty where one is absent or null."""
    if not names or not set(names) <= set(frame.columns):
        return [""] * frame.height
    return row_keys(frame, names).fill_null("").to_list()


def moments_of(frame: pl.DataFrame, name: str, otherwise: pl.Series) -> pl.Series:
    """The event time of each row (UTC): its column `name`, or `otherwise` where that is absent or null."""
    if name not in frame.columns:
        return otherwise
    times = RowReader([Input(name=name, type="time")]).read_frame(frame)[name]
    return times if not times.null_count() else times.zip_with(times.is_not_null(), otherwise)


def timed(rows: pl.DataFrame, manifest: Manifest, known_at: pl.Series) -> pl.DataFrame:
    """The rows with their event time where it is an input of the model: a row without one happens now."""
    name = manifest.time
    if name not in {one.name for one in manifest.signature.inputs}:
        return rows
    asked = known_at.cast(MOMENT)
    if name not in rows.columns:
        return rows.with_columns(asked.alias(name))
    if not rows[name].null_count() or not isinstance(rows.schema[name], pl.Datetime):
        return rows
    return rows.with_columns(pl.col(name).fill_null(asked.cast(rows.schema[name])))
