"""The search index: the words, links and measures of each type of record."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import SchemaVersion
from tidemill.core.token import Token
from tidemill.core.trigger import Job
from tidemill.ledger.table import shorten

_MAX_WORDS = 300
_LONGEST_WORD = 64
# An id, or the start of an id with its hyphens, is one word.
_WORD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{1,12}){1,4}(?![^\W_])|[^\W_]+")


class Entry(Struct, frozen=True):
    """The searchable content of a record: words at any depth of `text`, exact `links`, and `measures` to compare."""

    text: Any = ()
    links: tuple[str, ...] = ()
    measures: Mapping[str, float] = {}


class IndexEntry(Struct, frozen=True):
    """The index entry of a record; a term is a word, or a link, which starts with a colon."""

    words: frozenset[str] = frozenset()
    terms: frozenset[str] = frozenset()
    measures: Mapping[str, float] = {}


EMPTY_ENTRY = IndexEntry()


def split_words(text: str) -> list[str]:
    """Split a text into words, without differences of letter case and Unicode form.

    >>> split_words("Test_log_loss of Zürich")
    ['test', 'log', 'loss', 'of', 'zürich']
    """
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return [word[:_LONGEST_WORD] for word in _WORD.findall(plain.casefold())]


def link_term(link: str) -> str:
    """Return the term of a link in the index."""
    return shorten(":" + link.replace("\0", ""))


def index_record(record: Any) -> IndexEntry:
    """Return the index entry of a record, with at most its first 300 different words."""
    entry: Entry = _ENTRIES[type(record)](record)
    words = frozenset(islice(_unique_words(entry.text), _MAX_WORDS))
    measures = {shorten(name.replace("\0", "")): value for name, value in entry.measures.items()}
    return IndexEntry(words, words | {link_term(link) for link in entry.links}, measures)


def _unique_words(text: Any) -> Iterator[str]:
    seen = set()
    for part in _texts(text):
        for word in split_words(part):
            if word not in seen:
                seen.add(word)
                yield word


def _run(run: Run) -> Entry:
    return Entry(
        (
            (run.id, run.pipeline, run.model, run.environment, run.state, run.compared_with, run.host, run.engine),
            (run.tags, tuple(run.metrics), run.cause, run.code.get("commit"), run.error, run.params),
        ),
        _tag_links(run.tags),
        run.metrics,
    )


def _step(step: StepRun) -> Entry:
    inputs = (f"in:{digest}" for digest in step.inputs.values())
    return Entry(links=(*inputs, *(f"out:{digest}" for digest in step.outputs.values())))


def _release(release: Release) -> Entry:
    texts = (release.id, release.label, release.flavor, release.environment, release.run, release.package)
    return Entry((texts, release.tags, tuple(release.metrics)), _tag_links(release.tags), release.metrics)


def _route(route: Route) -> Entry:
    return Entry(tuple(asdict(route).values()), tuple(f"release:{arm.release}" for arm in route.arms))


def _verdict(verdict: Verdict) -> Entry:
    return Entry(tuple(value for name, value in asdict(verdict).items() if name != "evidence"))


def _schema(version: SchemaVersion) -> Entry:
    return Entry((version.id, version.source, version.by, version.reason))


def _build(build: Build) -> Entry:
    texts = (build.id, build.label, build.commit, build.branch, build.authors, build.pusher, build.state, build.reason)
    links = (f"artifact:{digest}" for digest in build.artifacts.values())
    return Entry(texts, (*links, *((f"image:{build.image}",) if build.image else ())))


def _token(token: Token) -> Entry:
    return Entry((token.id, token.name, token.owner, token.roles, token.environments))


def _all_fields(record: Struct) -> Entry:
    return Entry(tuple(asdict(record).values()))


def _not_indexed(_: Artifact) -> Entry:
    return Entry()


_ENTRIES: dict[type, Any] = {
    Run: _run,
    StepRun: _step,
    Release: _release,
    Route: _route,
    Verdict: _verdict,
    SchemaVersion: _schema,
    Artifact: _not_indexed,
    Event: _all_fields,
    Job: _all_fields,
    AuditEntry: _all_fields,
    Build: _build,
    Deployment: _all_fields,
    Token: _token,
}


def _tag_links(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"tag:{name}={value}" for name, value in tags.items())


def _texts(value: Any) -> Iterator[str]:
    """Iterate over the texts and numbers inside a value, including keys, without times."""
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
