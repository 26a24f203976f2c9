"""The identity of the rows of a source: their ids, which rows are versions of one row, and which version is current.

With a `key`, rows with the same key are versions of one row, and a later version corrects the earlier one. If one batch
has a key at several event times, the key names a thing with a history: then key and event time together name a row.
Without a key, and with a null in the key, each row is a row of its own, also if all its values are those of another.
"""

from collections.abc import Sequence
from hashlib import blake2b

import polars as pl

from tidemill.core.columns import ARRIVAL, KNOWN_AT, ROW_ID, TIME, is_internal
from tidemill.core.source import Source
from tidemill.data.keys import to_key_text, to_row_keys

_SEPARATOR = "\x1f"


def name_rows(rows: pl.DataFrame, key: Sequence[str], path: str) -> pl.Series:
    """Return the id of each row of a batch: its key, or without one a digest of its path and its values.

    The second of two rows with equal values has the suffix `+2`, and so on. The id does not depend on the order of the
    columns and of other rows, on the time at which the rows are read, and on the types of equal values.

    >>> ids = name_rows(pl.DataFrame({"x": [1, 1, 2]}), (), "a.csv").to_list()
    >>> ids[1] == f"{ids[0]}+2", ids == name_rows(pl.DataFrame({"x": [1.0, 1.0, 2.0]}), (), "a.csv").to_list()
    (True, True)
    """
    if not key or not set(key) <= set(rows.columns):
        return _number_equal(digest_values(rows, path))
    keys = to_row_keys(rows, key).alias(ROW_ID)
    if not keys.null_count():
        return keys
    return keys.zip_with(keys.is_not_null(), _number_equal(digest_values(rows, path)))


def _number_equal(digests: pl.Series) -> pl.Series:
    if not digests.is_duplicated().any():
        return digests
    number = pl.int_range(1, pl.len() + 1).over(digests.name)
    suffix = pl.when(number > 1).then(pl.format("+{}", number)).otherwise(pl.lit(""))
    return digests.to_frame().select(pl.col(digests.name) + suffix).to_series()


def digest_values(rows: pl.DataFrame, path: str) -> pl.Series:
    """Return a digest of the path and the values of each row, 16 hexadecimal digits."""
    names = sorted(name for name in rows.columns if not is_internal(name))
    if not names:
        return pl.Series(ROW_ID, [], dtype=pl.String)
    parts = [pl.lit(f"{name}=") + to_key_text(rows[name]) for name in names]
    texts: list[str] = pl.select(pl.concat_str(parts, separator=_SEPARATOR, ignore_nulls=True)).to_series().to_list()
    origin = blake2b(f"{path}{_SEPARATOR}".encode(), digest_size=8)
    digests = []
    for text in texts:
        digest = origin.copy()
        digest.update(text.encode())
        digests.append(digest.hexdigest())
    return pl.Series(ROW_ID, digests, dtype=pl.String)


def stack_batches(batches: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Stack the rows of batches, oldest first, with the number of their batch in the column `ARRIVAL`."""
    numbered = [rows.with_columns(pl.lit(number, pl.Int32).alias(ARRIVAL)) for number, rows in enumerate(batches)]
    return pl.concat(numbered, how="diagonal_relaxed")


def add_row_ids(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Add the column `ROW_ID` to stacked rows with times: versions of one row have one id; null for a row of its own.

    The versions of a row are in their order: by known-at time if the source has one, then by arrival.
    """
    if not source.key or not set(source.key) <= set(rows.columns):
        return rows.with_columns(pl.lit(None, pl.String).alias(ROW_ID))
    ids = to_row_keys(rows, source.key)
    named = pl.DataFrame([rows[ARRIVAL], ids.alias("key"), rows[TIME]]).drop_nulls("key")
    if named.unique().select(ARRIVAL, "key").is_duplicated().any():
        ids = pl.select(pl.concat_str(ids, rows[TIME].to_physical().cast(pl.String), separator="@")).to_series()
    rows = rows.with_columns(ids.alias(ROW_ID))
    return (
        rows.sort(KNOWN_AT, maintain_order=True) if source.known_at and ids.drop_nulls().is_duplicated().any() else rows
    )


def drop_corrected_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the current rows of a history: of each row the version of the newest batch; a row without an id stays."""
    is_current = pl.col(ARRIVAL) == pl.col(ARRIVAL).last().over(ROW_ID)
    return rows.filter(pl.col(ROW_ID).is_null() | is_current)
