"""What of a record is found by search: its words, its links and its measures."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import SchemaVersion
from tidemill.core.trigger import Job
from tidemill.ledger.table import shortened

_MOST = 300
_LONGEST = 64
# An id, or the beginning of one with its hyphens, is one word.
_WORD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{1,12}){1,4}(?![^\W_])|[^\W_]+")


class Entry(Struct, frozen=True):
    """What a noun says of a record: words at any depth of `text`, `links` found only whole, `measures` compared."""

    text: Any = ()
    links: tuple[str, ...] = ()
    measures: Mapping[str, float] = {}


class Indexed(Struct, frozen=True):
    """What stands in the index for a record; a term is a word or a link, and no word begins like a link."""

    words: frozenset[str] = frozenset()
    terms: frozenset[str] = frozenset()
    measures: Mapping[str, float] = {}


NOTHING = Indexed()


def words(text: str) -> list[str]:
    """The words of a text, letter case and form aside: what is between spaces, punctuation and underscores.

    >>> words("Test_log_loss of Zürich")
    ['test', 'log', 'loss', 'of', 'zürich']
    """
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return [word[:_LONGEST] for word in _WORD.findall(plain.casefold())]


def link_term(link: str) -> str:
    """How a link stands in the index."""
    return shortened(":" + link.replace("\0", ""))


def indexed(record: Any) -> Indexed:
    """What of a record is found by search: at most the first 300 different words of it."""
    entry: Entry = _ENTRIES[type(record)](record)
    words = frozenset(islice(_different(entry.text), _MOST))
    measures = {shortened(name.replace("\0", "")): value for name, value in entry.measures.items()}
    return Indexed(words, words | {link_term(link) for link in entry.links}, measures)


def _different(text: Any) -> Iterator[str]:
    seen = set()
    for part in _texts(text):
        for word in words(part):
            if word not in seen:
                seen.add(word)
                yield word


def _run(run: Run) -> Entry:
    return Entry(
        (
            (run.id, run.pipeline, run.model, run.environment, run.state, run.compared_with, run.host, run.engine),
            (run.tags, tuple(run.metrics), run.cause, run.code.get("commit"), run.error, run.params),
        ),
        _tagged(run.tags),
        run.metrics,
    )


def _step(step: StepRun) -> Entry:
    taken = (f"in:{digest}" for digest in step.inputs.values())
    return Entry(links=(*taken, *(f"out:{digest}" for digest in step.outputs.values())))


def _release(release: Release) -> Entry:
    about = (release.id, release.label, release.flavor, release.environment, release.run, release.package)
    return Entry((about, release.tags, tuple(release.metrics)), _tagged(release.tags), release.metrics)


def _route(route: Route) -> Entry:
    return Entry(tuple(asdict(route).values()), tuple(f"release:{arm.release}" for arm in route.arms))


def _verdict(verdict: Verdict) -> Entry:
    return Entry(tuple(value for name, value in asdict(verdict).items() if name != "evidence"))


def _schema(version: SchemaVersion) -> Entry:
    return Entry((version.id, version.source, version.by, version.reason))


def _whole(record: Struct) -> Entry:
    return Entry(tuple(asdict(record).values()))


def _nothing(_: Artifact) -> Entry:
    return Entry()


_ENTRIES: dict[type, Any] = {
    Run: _run,
    StepRun: _step,
    Release: _release,
    Route: _route,
    Verdict: _verdict,
    SchemaVersion: _schema,
    Artifact: _nothing,
    Event: _whole,
    Job: _whole,
    AuditEntry: _whole,
}


def _tagged(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"tag:{name}={value}" for name, value in tags.items())


def _texts(value: Any) -> Iterator[str]:
    """Every text and number within a value; keys too, times not."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _texts(part)
    elif isinstance(value, Struct):
        yield from _texts(tuple(asdict(value).values()))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)
