"""What an identifier names: a run, an artifact, a release or a prediction, whole or by its beginning."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from msgspec import Struct

from tidemill.clock import moment_of
from tidemill.core.resources import BookReader, BooksReader, JournalReader
from tidemill.core.run import Run
from tidemill.errors import InputError, NotFound
from tidemill.ledger.releases import find_release

T = TypeVar("T", bound=Struct)
_LEAST = 4
_SHOWN = 3
_PAST_ANY_DIGIT = "g"
_AROUND = timedelta(minutes=2)


class Named(Struct, frozen=True):
    """What was found: the id of a run or an artifact, the label of a release, or the id of a prediction of `model`."""

    kind: Literal["run", "artifact", "release", "prediction"]
    id: str
    model: str = ""


def run_of(books: BooksReader, text: str) -> Run:
    """The run of that id, or of the only id that begins so.

    Raises
    ------
    NotFound
        if there is none.
    InputError
        if several begin so.
    """
    found = beginning_with(books.runs, text)
    if not found:
        raise NotFound(f"runs has no {text!r}", "list them: `tidemill runs list`")
    if len(found) > 1:
        raise _ambiguous(text, [f"run {run.id}" for run in found])
    return found[0]


def identify(
    books: BooksReader,
    text: str,
    journal: JournalReader | None = None,
    models: Sequence[str] = (),
    environment: str = "",
) -> Named:
    """What a text names; a prediction is looked for in the journal of one environment.

    Raises
    ------
    NotFound
        if nothing has that id.
    InputError
        if it may be several things.
    """
    if "/" in text:
        return Named("release", find_release(books, text).label)
    found = [Named("run", run.id) for run in beginning_with(books.runs, text)]
    found += [Named("artifact", artifact.id) for artifact in beginning_with(books.artifacts, text)]
    if len(found) > 1:
        raise _ambiguous(text, [f"{one.kind} {one.id}" for one in found])
    if found:
        return found[0]
    for model in models:
        if journal is not None and served(journal, model, text):
            return Named("prediction", text, model)
    where = f" (predictions were looked for in {environment}: --env names another environment)" if environment else ""
    raise NotFound(
        f"nothing has the id {text!r}",
        f"give a run, an artifact's digest, a prediction's id or a release such as flights/3{where}",
    )


def served(journal: JournalReader, model: str, identifier: str) -> list[dict[str, Any]]:
    """What was answered under an id, the answer that counted first; empty where nothing was."""
    try:
        moment = moment_of(identifier)
    except (ValueError, OverflowError):
        return []
    import polars as pl  # late: most commands look at no prediction

    rows = journal.read(f"predictions/{model}", moment - _AROUND, moment + _AROUND)
    if rows.is_empty():
        return []
    return rows.filter(pl.col("id") == identifier).sort(pl.col("role") == "shadow").to_dicts()


def beginning_with(book: BookReader[T], text: str) -> list[T]:
    """The record of exactly that id, or else a few of those whose ids begin so; ids are hexadecimal."""
    wanted = text.strip().lower()
    if len(wanted) < _LEAST:
        raise InputError(f"{text!r} is too short for an id", f"give at least {_LEAST} letters of it")
    exact = book.find(id=wanted, limit=1)
    near = exact or book.find(after=wanted, before=wanted + _PAST_ANY_DIGIT, limit=_SHOWN)
    return [one for one in near if _id(one).startswith(wanted)]


def _id(record: Struct) -> str:
    return str(getattr(record, "id"))  # noqa: B009 - every noun has one


def _ambiguous(text: str, found: list[str]) -> InputError:
    return InputError(f"{text!r} begins several ids: {', '.join(found)}", "give more letters of the one you mean")
