"""Documents: sections of facts, and of questions that only a person can answer."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tidemill.errors import InputError
from tidemill.evidence.formatting import format_number, format_time


class Fact(Struct, frozen=True, kw_only=True):
    """A named value from the records, as text; `file` is the file of the archive that has all of it."""

    name: str
    text: str
    file: str = ""


class Question(Struct, frozen=True, kw_only=True):
    """A field that cannot be filled from records: its id, its question and a person's answer, empty without one."""

    id: str
    question: str
    answer: str = ""


class Table(Struct, frozen=True, kw_only=True):
    """Rows of texts under the names of their columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(Struct, frozen=True, kw_only=True):
    """A heading with its facts, tables and questions."""

    id: str
    heading: str
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    questions: tuple[Question, ...] = ()


class Document(Struct, frozen=True, kw_only=True):
    """A document of sections; `about` says what it is and what it is not."""

    id: str
    title: str
    about: str
    sections: tuple[Section, ...]

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return the questions of all sections."""
        return tuple(question for section in self.sections for question in section.questions)


def fact(name: str, value: Any, file: str = "") -> tuple[Fact, ...]:
    """Return a fact with the text of a value; none if the value is empty, since nothing is invented."""
    text = to_text(value)
    return (Fact(name=name, text=text, file=file),) if text else ()


def ask_for(value: str, name: str, question: str) -> tuple[Question, ...]:
    """Return a question if there is no value."""
    return () if value else (Question(id=name, question=question),)


def to_text(value: Any) -> str:
    """Return a value as text for people.

    >>> to_text({"a": 0.25, "b": ["x", "y"], "c": None})
    'a: 0.2500; b: x, y'
    """
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return format_number(value)
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        parts = {str(name): to_text(part) for name, part in value.items()}
        return "; ".join(f"{name}: {text}" for name, text in parts.items() if text)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(text for part in value if (text := to_text(part)))
    return str(value)


def answer_questions(documents: Sequence[Document], answers: Mapping[str, str]) -> tuple[Document, ...]:
    """Return the documents with a person's answers, by the ids of the questions.

    Raises
    ------
    InputError
        if an answer belongs to no question.
    """
    known = {question.id for document in documents for question in document.questions}
    for name in answers:
        if name not in known:
            raise InputError(f"there is no question {name!r}", f"the questions are: {', '.join(sorted(known))}")
    return tuple(
        replace(document, sections=tuple(_answer(section, answers) for section in document.sections))
        for document in documents
    )


def _answer(section: Section, answers: Mapping[str, str]) -> Section:
    answered = (replace(question, answer=answers.get(question.id, "")) for question in section.questions)
    return replace(section, questions=tuple(answered))
