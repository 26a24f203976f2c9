"""Workspaces of one history share what steps gave: never what follows from a journal, nor what was not made."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.flow.kit import Mill
from tidemill.core.pipeline import pipeline, step
from tidemill.core.resources import JournalReader
from tidemill.flow.shared import SharedResults


@step
def square(number: int) -> int:
    return number**2


@step
def refuse(number: int) -> int:
    raise ValueError(str(number))


@step(transient=True)
def served(number: int, journal: JournalReader) -> pl.DataFrame:
    return journal.read("predictions/late").select(pl.lit(number))


@step(transient=True)
def double(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, rows])


@step
def count(rows: pl.DataFrame) -> int:
    return rows.height


@step
def count_all(parts: list[pl.DataFrame]) -> int:
    return sum(part.height for part in parts)


@step
def count_read(journal: JournalReader) -> int:
    return journal.read("predictions/late").height


@pipeline
def squares() -> None:
    square(3)


@pipeline
def learned() -> None:
    count(double(served(1)))


@pipeline
def learned_of_several() -> None:
    count_all([served(1), served(2)])


@pipeline
def looked() -> None:
    count_read()


@pipeline
def broken() -> None:
    refuse(1)
    square(4)


@pipeline
def mended() -> None:
    square(4)


def mill(folder: Path, name: str) -> Mill:
    """One of several workspaces, each with a journal of its own, that share blobs and memory."""
    made = Mill(folder / name, blobs=folder / "blobs")
    made.session.shared_results = SharedResults(folder / "memory")
    return made


def test_what_one_made_another_takes(tmp_path: Path) -> None:
    one, other = mill(tmp_path, "one"), mill(tmp_path, "other")
    assert one.states(one.run(squares)) == {"square": "ran"}
    assert other.states(other.run(squares)) == {"square": "cached"}


@pytest.mark.parametrize("made_of", [learned, learned_of_several, looked])
def test_what_follows_from_a_journal_is_made_in_each(tmp_path: Path, made_of: Any) -> None:
    for name in ("one", "other"):
        here = mill(tmp_path, name)
        assert list(here.states(here.run(made_of)).values())[-1] == "ran"


def test_what_a_failed_run_did_not_come_to_keeps_nobody_waiting(tmp_path: Path) -> None:
    one, other = mill(tmp_path, "one"), mill(tmp_path, "other")
    _, error = one.try_to_run(broken)
    assert error is not None
    assert other.states(other.run(mended)) == {"square": "ran"}, "it waited for ever"
    assert one.states(one.run(mended)) == {"square": "cached"}
