"""Finds the run, artifact, release or prediction of an id, or of the first letters of an id."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from msgspec import Struct

from tidemill.clock import read_id_time
from tidemill.core.resources import BookReader, BooksReader, JournalReader
from tidemill.core.run import Run
from tidemill.errors import InputError, NotFound
from tidemill.ledger.releases import find_release

T = TypeVar("T", bound=Struct)
_SHORTEST_PREFIX = 4
_MAX_MATCHES = 3
_AFTER_HEX_DIGITS = "g"  # the upper end of a range of ids: it sorts after every hexadecimal digit
_TOLERANCE = timedelta(minutes=2)


class RecordReference(Struct, frozen=True):
    """A reference to a record: the id of a run, an artifact or a prediction of `model`, or the label of a release."""

    kind: Literal["run", "artifact", "release", "prediction"]
    id: str
    model: str = ""


def find_run(books: BooksReader, text: str) -> Run:
    """Return the run with this id, or with the only id that starts with this text.

    Raises
    ------
    NotFound
        if there is no such run.
    InputError
        if several ids start with this text.
    """
    matches = find_by_prefix(books.runs, text)
    if not matches:
        raise NotFound(f"there is no run {text!r}", "list the runs: `tidemill runs list`")
    if len(matches) > 1:
        raise _create_ambiguous_id_error(text, [f"run {run.id}" for run in matches])
    return matches[0]


def identify(
    books: BooksReader,
    text: str,
    journal: JournalReader | None = None,
    models: Sequence[str] = (),
    environment: str = "",
) -> RecordReference:
    """Return a reference to the record with an id; predictions are searched in the journal of one environment.

    Raises
    ------
    NotFound
        if no record has this id.
    InputError
        if several ids start with this text.
    """
    if "/" in text:
        return RecordReference("release", find_release(books, text).label)
    matches = [RecordReference("run", run.id) for run in find_by_prefix(books.runs, text)]
    matches += [RecordReference("artifact", artifact.id) for artifact in find_by_prefix(books.artifacts, text)]
    if len(matches) > 1:
        raise _create_ambiguous_id_error(text, [f"{match.kind} {match.id}" for match in matches])
    if matches:
        return matches[0]
    for model in models:
        if journal is not None and read_predictions(journal, model, text):
            return RecordReference("prediction", text, model)
    searched = (
        f" (predictions were searched in {environment}; --env selects another environment)" if environment else ""
    )
    raise NotFound(
        f"no record has the id {text!r}",
        f"use the id of a run or a prediction, the digest of an artifact, or a release such as flights/3{searched}",
    )


def read_predictions(journal: JournalReader, model: str, identifier: str) -> list[dict[str, Any]]:
    """Return the predictions with an id, shadow predictions last; empty if there are none."""
    try:
        time = read_id_time(identifier)
    except (ValueError, OverflowError):
        return []
    import polars as pl  # imported here, since most commands read no predictions

    rows = journal.read(f"predictions/{model}", time - _TOLERANCE, time + _TOLERANCE)
    if rows.is_empty():
        return []
    return rows.filter(pl.col("id") == identifier).sort(pl.col("role") == "shadow").to_dicts()


def find_by_prefix(book: BookReader[T], text: str) -> list[T]:
    """Return the record with exactly this hexadecimal id, otherwise up to three whose ids start with this text."""
    prefix = text.strip().lower()
    if len(prefix) < _SHORTEST_PREFIX:
        raise InputError(f"{text!r} is too short for an id", f"use at least its first {_SHORTEST_PREFIX} characters")
    exact = book.find(id=prefix, limit=1)
    records = exact or book.find(after=prefix, before=prefix + _AFTER_HEX_DIGITS, limit=_MAX_MATCHES)
    return [record for record in records if _read_id(record).startswith(prefix)]


def _read_id(record: Struct) -> str:
    return str(getattr(record, "id"))  # noqa: B009 - every record type has an id


def _create_ambiguous_id_error(text: str, matches: list[str]) -> InputError:
    return InputError(f"several ids start with {text!r}: {', '.join(matches)}", "use more characters of the id")
