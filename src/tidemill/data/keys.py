"""Keys as text that compares by value: 7, 7.0, 7.00 and "7" are one key; a null or NaN is no key.

The rule is in `docs/reference/keys.md`. Every comparison of keys uses it: joins of features, names of entities in the
online store, keys of predictions and labels, and the current rows of a table.
"""

from collections.abc import Sequence
from decimal import Decimal

import polars as pl

from tidemill.data.timestamps import parse_times
from tidemill.errors import DataError

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.f"
_TIME_TEXT = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d"


def count_values(values: pl.Series) -> pl.DataFrame:
    """Return the columns `value` and `count` of the values that are not null, the most frequent first.

    >>> count_values(pl.Series("count", ["b", "a", "b", None])).rows()
    [('b', 2), ('a', 1)]
    """
    counts = values.drop_nulls().alias("value").value_counts(name="count")
    return counts.sort("count", "value", descending=[True, False])


def to_class_names(values: pl.Series) -> pl.Series:
    """Format labels as class names: `true`/`false`, whole numbers without a point, text unchanged; nulls stay.

    >>> to_class_names(pl.Series([1.0, 0.0, None])).to_list()
    ['1', '0', None]
    >>> to_class_names(pl.Series([1.0, float("inf")])).to_list()
    ['1', 'inf']

    Raises
    ------
    DataError
        if the values are lists, records or bytes.
    """
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise DataError(
            f"the label {values.name!r} has the type {values.dtype}; a class is a text, a number, a date or a boolean",
            "choose another label, or give the source a column with the part of it to predict",
        )
    if values.dtype.is_float() and bool((values.drop_nulls() == values.drop_nulls().round()).all()):
        whole = values.cast(pl.Int64, strict=False)  # null for infinity and for numbers beyond 64 bits
        return whole.cast(pl.String).fill_null(values.cast(pl.String))
    return values.cast(pl.String)


def to_key_text(values: pl.Series) -> pl.Series:
    """Format a column of keys so that equal values have equal texts, whatever their types; null for null and NaN.

    >>> to_key_text(pl.Series([7.0, 7.5, -0.0, None])).to_list()
    ['7', '7.5', '0', None]
    >>> to_key_text(pl.Series(["7", "07", "2024-01-01T02:00:00+02:00"])).to_list()
    ['7', '07', '2024-01-01']
    """
    dtype = values.dtype
    if dtype.is_float():
        return _float_text(values)
    if dtype.is_decimal():
        return _decimal_text(values.cast(pl.String))
    if isinstance(dtype, pl.Datetime):
        return _time_text(_to_clock_time(values, dtype))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _parse_time_text(values.cast(pl.String))
    if dtype == pl.Duration:
        return values.dt.to_string("iso")
    if dtype == pl.Binary:
        return _binary_text(values)
    if dtype.is_nested():
        return pl.Series(values.name, [None if value is None else repr(value) for value in values.to_list()], pl.String)
    return values.cast(pl.String)


def _float_text(values: pl.Series) -> pl.Series:
    whole = values.cast(pl.Int128, strict=False)
    is_whole = (whole.cast(values.dtype) == values).fill_null(value=False)
    texts = values.fill_nan(None).cast(pl.String).zip_with(~is_whole, whole.cast(pl.String))
    is_scientific = texts.str.contains("e", literal=True).fill_null(value=False)
    if not is_scientific.any():
        return texts
    plain = {text: f"{Decimal(text):f}" for text in texts.filter(is_scientific).unique().to_list()}
    return texts.replace(list(plain), list(plain.values()))


def _decimal_text(texts: pl.Series) -> pl.Series:
    has_point = texts.str.contains(".", literal=True).fill_null(value=False)
    return texts.zip_with(~has_point, texts.str.strip_chars_end("0").str.strip_chars_end("."))


def _to_clock_time(values: pl.Series, dtype: pl.Datetime) -> pl.Series:
    """Return times in UTC without their zone, in their own unit; a time without a zone is UTC."""
    return values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else values


def _time_text(times: pl.Series) -> pl.Series:
    """Format times: a midnight as its date, a fraction of a second without trailing zeros."""
    texts = times.dt.to_string(_TIME_FORMAT)
    has_fraction = texts.str.contains(".", literal=True).fill_null(value=False)
    if has_fraction.any():
        texts = texts.zip_with(~has_fraction, texts.str.strip_chars_end("0").str.strip_chars_end("."))
    return texts.str.strip_suffix("T00:00:00")


def _parse_time_text(texts: pl.Series) -> pl.Series:
    """Format text that is an ISO 8601 date and time of day as that time, as JSON has no times; other text stays."""
    is_time = texts.str.contains(_TIME_TEXT).fill_null(value=False)
    if not is_time.any():
        return texts
    written = texts.filter(is_time).unique().alias("text").to_frame()
    parsed = written.select("text", parse_times(pl.col("text")).alias("time")).drop_nulls()
    named = _time_text(_to_clock_time(parsed["time"], pl.Datetime("us", "UTC")))
    return texts.replace(parsed["text"], named)


def _binary_text(values: pl.Series) -> pl.Series:
    """Format bytes as their UTF-8 text, or else as hexadecimal digits."""
    texts = []
    for value in values.to_list():
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(f"0x{value.hex()}")
    return pl.Series(values.name, texts, dtype=pl.String)


def to_row_keys(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    r"""Return the key of each row as text: its key columns joined by `|`; null if one of them is null or NaN.

    In a key of several columns, `|` in a value is written `\|`, and `\` is written `\\`.

    >>> to_row_keys(pl.DataFrame({"carrier": ["UA", "A|A"], "flight": [12.0, None]}), ["carrier", "flight"]).to_list()
    ['UA|12', None]
    """
    texts = [to_key_text(frame[name]) for name in names]
    return texts[0] if len(texts) == 1 else join_key_texts(texts)


def join_key_texts(texts: Sequence[pl.Series]) -> pl.Series:
    """Join the texts of several key columns, so that different keys have different texts."""
    escaped = [
        text.str.replace_all("\\", r"\\", literal=True).str.replace_all("|", r"\|", literal=True) for text in texts
    ]
    return pl.select(pl.concat_str(escaped, separator="|").alias("key")).to_series()


def normalize_row_keys(keys: pl.Series) -> pl.Series:
    """Return keys that came as text in the form of `to_row_keys`: a time in them as that function writes it.

    >>> normalize_row_keys(pl.Series(["UA|2013-03-01T10:30:00.000Z", "7"])).to_list()
    ['UA|2013-03-01T10:30:00', '7']
    """
    has_time = keys.str.contains(_TIME_TEXT.replace("^", r"(^|\\|)", 1)).fill_null(value=False)
    written = keys.filter(has_time).unique()
    if written.is_empty():
        return keys
    parts = [to_key_text(pl.Series(split_key_text(key))) for key in written.to_list()]
    named = [
        part[0] if len(part) == 1 else join_key_texts([part[at : at + 1] for at in range(len(part))])[0]
        for part in parts
    ]
    return keys.replace(written, pl.Series(named, dtype=pl.String))


def split_key_text(key: str) -> list[str]:
    r"""Return the texts of the columns of a key of several columns.

    >>> split_key_text(r"UA|1\|2")
    ['UA', '1|2']
    """
    parts = [""]
    characters = iter(key)
    for character in characters:
        if character == "|":
            parts.append("")
        else:
            parts[-1] += next(characters, "") if character == "\\" else character
    return parts
