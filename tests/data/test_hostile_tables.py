"""Any file is learned and trained, or refused by an error with a cure: no other exception, whatever its bytes.

`TIDEMILL_FUZZ_TABLES=2000 pytest tests/data/test_hostile_tables.py` tries 2,000 files; without it, a few.
"""

import gzip
import io
import json
import os
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.cli.main import main

FILES = int(os.environ.get("TIDEMILL_FUZZ_TABLES", "12"))
SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet", ".xlsx", ".csv.gz", ".jsonl.zst")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp949", "shift_jis", "utf-7", "cp037")
NAMES = st.sampled_from(
    [
        *("", " ", "a", "A", "a b", "a,b", 'a"b', "'", "\x00", "\x1b", "\n", "_time", "_id", "_row", "y", "id", "time"),
        *("1", "é", "e\u0301", "\ufeff", "\u2028", "🦙", "nan", "null", "#", "--label", "=1", "{{x}}", "x" * 3_000),
    ]
) | st.text(max_size=5)
TEXTS = st.sampled_from(
    [
        *("", " ", "\x00", "\r", "\n", '"', '""', "'", ",", ";", "\t", "\ufeff", "\u2028", "é", "한글", "🦙", "\x7f"),
        *("NA", "null", "None", "-", "?", "NaN", "inf", "-Infinity", "1e999", "-1e-999", "0x1F", "1_000", "١٢", "½"),
        *("9" * 19, "9" * 400, "-0", "+1", "007", "1.", ".5", "1e5", "1,5", "1.234,5", "1,234", "$5", "5%", "1 000"),
        *("true", "TRUE", "t", "yes", "0", "1", "2021-02-30", "2021-01-01", "0000-00-00", "99999-01-01", "31/12/2020"),
        *("01/02/2020", "1.2.2020", "Jan 5 2020", "2021-01-01T25:00", "2021-01-01 00:00:00+99:99", "12:30", "24:00"),
        *("2021-01-01T00:00:00Z", "1600000000", "1600000000000", "0001-01-01", "9999-12-31", "{}", "[1]", "b'x'"),
        *("=1+1", "{{ x }}", "%s", "$HOME", "${HOME}", "x" * 70_000, "\\", "\\N", "#N/A", "]]>", "\x1a"),
    ]
) | st.text(max_size=6)
NUMBERS = (
    st.integers(-9, 9)
    | st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400, -0.0, 1e308, 5e-324])
    | st.floats()
)
LEAVES: st.SearchStrategy[Any] = st.none() | st.booleans() | NUMBERS | TEXTS
JSON_VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "u64": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "i128": (pl.Int128, st.integers(-(2**100), 2**100)),
    "i8": (pl.Int8, st.integers(-128, 127)),
    "f32": (pl.Float32, st.floats(width=32)),
    "f64": (pl.Float64, st.floats()),
    "decimal": (pl.Decimal(38, 5), st.decimals(-(10**9), 10**9, places=5, allow_nan=False, allow_infinity=False)),
    "boolean": (pl.Boolean, st.booleans()),
    "text": (pl.String, TEXTS),
    "bytes": (pl.Binary, st.binary(max_size=5)),
    "date": (pl.Date, st.dates(date.min, date.max)),
    "clock": (pl.Time, st.times()),
    "span": (pl.Duration("us"), st.timedeltas(timedelta(-(10**6)), timedelta(10**6))),
    "us": (pl.Datetime("us"), st.datetimes(datetime.min, datetime.max)),
    "ns": (pl.Datetime("ns"), st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))),
    "zoned": (pl.Datetime("ms", "Europe/Berlin"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    "category": (pl.Categorical, TEXTS),
    "list": (pl.List(pl.Int64), st.lists(st.integers(0, 3), max_size=3)),
    "record": (pl.Struct({"a": pl.Int64}), st.fixed_dictionaries({"a": st.integers(0, 3)})),
    "null": (pl.Null, st.none()),
}
LABELS = (
    st.lists(st.sampled_from(["yes", "no", "Yes"]), min_size=2, max_size=3, unique=True)
    | st.lists(st.integers(0, 3), min_size=2, max_size=4, unique=True)
    | st.lists(st.floats(-5, 5) | st.sampled_from([float("nan"), float("inf"), 1e300]), min_size=2, max_size=12)
    | st.just([True, False])
    | st.lists(LEAVES, min_size=1, max_size=6)
)

OPTIONS: list[tuple[str, ...]] = [
    *((), (), (), (), ("--time", "x"), ("--key", "x"), ("--task", "regression"), ("--task", "classification")),
    *(("--time", "a"), ("--encoding", "latin-1"), ("--separator", ";"), ("--decimal", ","), ("--text", "a")),
    *(("--null", "1"), ("--date-format", "a=%d/%m/%Y"), ("--date-format", "x=s"), ("--exclude", "x")),
]


class HostileFile(NamedTuple):
    """The bytes of a file, its suffix, options of `init`, and whether the model has to pass the gate."""

    suffix: str
    content: bytes
    options: tuple[str, ...]
    gate: bool = True


def repeat(draw: st.DrawFn, values: list[Any], rows: int) -> list[Any]:
    """Return some of the values for each row, in random order."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [values[index] for index in random.integers(0, len(values), rows)]


def draw_columns(draw: st.DrawFn, values: st.SearchStrategy[Any], rows: int) -> dict[str, list[Any]]:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    columns = {name: repeat(draw, draw(st.lists(values, min_size=1, max_size=6)), rows) for name in names}
    columns["x"] = [index % 7 for index in range(rows)]
    labels = draw(LABELS)
    if draw(st.booleans()):  # a label that a model can learn
        return columns | {"y": [labels[index % 7 % len(labels)] for index in range(rows)]}
    return columns | {"y": repeat(draw, labels, rows)}


def draw_delimited(draw: st.DrawFn, rows: int) -> bytes:
    columns = draw_columns(draw, TEXTS if draw(st.booleans()) else TEXTS | NUMBERS, rows)
    separator, quote = draw(st.sampled_from(",;\t|,")), draw(st.sampled_from(["always", "needed", "never"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))

    def write(value: Any) -> str:
        text = "" if value is None else str(value)
        unsafe = quote == "always" or (quote == "needed" and any(sign in text for sign in (separator, '"', "\n", "\r")))
        return '"' + text.replace('"', '""') + '"' if unsafe else text

    lines = [separator.join(write(name) for name in columns)]
    lines += [separator.join(write(value) for value in row) for row in zip(*columns.values(), strict=True)]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):  # a ragged line
        place = draw(st.integers(0, len(lines) - 1))
        lines[place] = draw(st.sampled_from([lines[place] + separator, lines[place][:-1], "x", "", " ", '"']))
    return end.join(lines).encode(draw(st.sampled_from(("utf-8",) * 12 + ENCODINGS)), "replace")


def draw_json(draw: st.DrawFn, rows: int, *, lines: bool) -> bytes:
    columns = draw_columns(draw, JSON_VALUES if draw(st.booleans()) else LEAVES, rows)
    records: list[Any] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if draw(st.integers(0, 4)) == 0:
        records[draw(st.integers(0, rows - 1))] = draw(JSON_VALUES)
    ascii_only = draw(st.booleans())
    texts = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    if draw(st.integers(0, 9)) == 0:
        odd = [
            '{"a": 1, "a": 2}',
            '{"x": "\\ud800"}',
            "[" * 100_000,
            '{"x":' * 5_000,
            "{}",
            '{"x": 01}',
            "nul",
            "\ufeff",
        ]
        texts[draw(st.integers(0, rows - 1))] = draw(st.sampled_from(odd))
    text = (
        "\n".join(texts)
        if lines
        else draw(st.sampled_from(["[{}]", '{{"data": [{}]}}', "[{}"])).format(",".join(texts))
    )
    return text.encode("utf-8", "surrogatepass")


def draw_parquet(draw: st.DrawFn, rows: int) -> bytes:
    columns = [pl.Series("x", [index % 7 for index in range(rows)])]
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        if name not in ("x", "y"):
            dtype, values = TYPES[draw(st.sampled_from(sorted(TYPES)))]
            distinct = draw(st.lists(st.none() | values, min_size=1, max_size=6))
            columns.append(pl.Series(name, repeat(draw, distinct, rows), dtype=dtype, strict=False))
    dtype, values = TYPES[draw(st.sampled_from(["text", "i8", "f64", *TYPES]))]
    columns.append(
        pl.Series("y", repeat(draw, draw(st.lists(values, min_size=2, max_size=6)), rows), dtype=dtype, strict=False)
    )
    pl.DataFrame(columns).write_parquet(buffer := io.BytesIO())
    return buffer.getvalue()


@st.composite
def hostile_files(draw: st.DrawFn) -> HostileFile:
    """Return a file that is a table, nearly a table, or any bytes."""
    rows = draw(st.sampled_from([60, 90, 60, 120, 60, 2, 300]))
    writers: dict[str, Callable[[], bytes]] = {
        ".csv": lambda: draw_delimited(draw, rows),
        ".jsonl": lambda: draw_json(draw, rows, lines=True),
        ".json": lambda: draw_json(draw, rows, lines=False),
        ".parquet": lambda: draw_parquet(draw, rows),
    }
    suffix = draw(st.sampled_from([*writers, *writers, ".csv", ".csv", "any"]))
    if suffix == "any":
        suffix, content = draw(st.sampled_from(SUFFIXES)), draw(st.binary(max_size=300))
    else:
        content = writers[suffix]()
    damage = draw(st.sampled_from([""] * 8 + ["truncated", "changed", "compressed", "cut", "renamed"]))
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if damage == "truncated":
        content = content[:place]
    elif damage == "changed":
        content = content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place + 1 :]
    elif damage == "compressed":
        suffix, content = f"{suffix}.gz", gzip.compress(content)
    elif damage == "cut":
        suffix, content = f"{suffix}.gz", gzip.compress(content)[:-5]
    elif damage == "renamed":
        suffix = draw(st.sampled_from(SUFFIXES))
    return HostileFile(suffix, content, draw(st.sampled_from(OPTIONS)), draw(st.integers(0, 4)) == 0)


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command in a folder; return its exit code and what it printed as errors."""
    before, out, errors = Path.cwd(), io.StringIO(), io.StringIO()
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            return main(list(words)), errors.getvalue()
    finally:
        os.chdir(before)


@given(hostile_files())
@settings(deadline=None, max_examples=FILES, suppress_health_check=list(HealthCheck))
def test_any_file_is_trained_on_or_refused_with_a_cure(file: HostileFile) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"a{file.suffix}").write_bytes(file.content)
        code, errors = run(folder, "init", "p", "--from", f"a{file.suffix}", "--label", "y", *file.options)
        require_cure(code, errors)
        if code == 0:
            policy = folder / "p" / "tidemill.toml"
            if not file.gate:
                policy.write_text(policy.read_text().replace("[gate]", "[gate]\nenabled = false\n#", 1))
            require_cure(*run(folder / "p", "run", "training"))


def require_cure(code: int, errors: str) -> None:
    """Require that a command succeeded, or was refused with a problem and a cure."""
    text = " ".join(errors.split())
    assert code in (0, 2, 3), text
    assert "bug in Tidemill" not in text
    assert not re.search(r"step '\w+' failed:", text), text
    if code:
        assert " — " in text, text
