"""Erasure: delete the rows of one person from all stores, and record the erasure.

The journal is first and the tables are last, because the tables show which predictions were about that person. So an
erasure that was killed at any point can be repeated. A reader sees all of the erased rows of a store, or none.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.artifacts import list_members
from tidemill.blobs.store import Blobs
from tidemill.clock import Clock
from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.batch import Batch
from tidemill.core.damage import Checked
from tidemill.core.feature import FeatureView
from tidemill.core.policy import Policy
from tidemill.core.resources import Sources
from tidemill.data.frame import KNOWN_AT
from tidemill.data.keys import split_key_text, to_key_text, to_row_keys
from tidemill.errors import Corrupt, DataError, InputError, NotFound
from tidemill.faults import maybe_crash
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace

_FRAMES = ("frame",)
_COLLECTIONS = ("list", "dict")
_WHOLE = re.compile(r"^(-?\d+)\.0$")


class Person(Struct, frozen=True):
    """A person: the rows where `columns` have the `values`, and the rows with a key in `rows`."""

    columns: tuple[str, ...]
    values: tuple[str, ...]
    rows: dict[tuple[str, ...], set[str]] = {}

    @property
    def key(self) -> str:
        """The values as the text of a key."""
        return to_row_keys(pl.DataFrame([self.values], list(self.columns), orient="row"), self.columns)[0] or ""

    def marks(self, frame: pl.DataFrame) -> pl.Series:
        """Return whether each row of a table belongs to the person."""
        marked = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        if set(self.columns) <= set(frame.columns):
            marked = marked | (_texts(frame, self.columns) == self.key)
        for keys, names in self.rows.items():
            if set(keys) <= set(frame.columns):
                marked = marked | _texts(frame, keys).is_in(list(names))
        return marked.fill_null(value=False)

    def is_named_by(self, keys: tuple[str, ...], key: str) -> bool:
        """Return whether a key, as `to_row_keys` writes it, belongs to one of the person's rows."""
        written = split_key_text(key) if len(keys) > 1 else [key]
        # A request may have an integer with a decimal point.
        parts = [_WHOLE.sub(r"\1", part) for part in written]
        if {key, "|".join(parts)} & self.rows.get(keys, set()):
            return True
        if not set(self.columns) <= set(keys):
            return False
        values = to_key_text(pl.Series(self.values)).to_list()
        if len(parts) != len(keys):  # a value contains `|`: delete a row too many rather than too few
            return all(value in parts for value in values) or key == "|".join(values)
        positions = [keys.index(column) for column in self.columns]
        return all(value in (parts[at], written[at]) for at, value in zip(positions, values, strict=True))


class Erasure(Struct, frozen=True, kw_only=True):
    """The erased rows by store and the erased cached frames (or those of a dry run), and what was not erased.

    `sources` are files of the user that still contain such rows, `unread` files that could not be read; `releases` are
    models that may have been trained on such rows.
    """

    rows: dict[str, int]
    frames: int
    sources: dict[str, int]
    unread: tuple[str, ...]
    releases: tuple[str, ...]


def parse_person(text: str, views: Mapping[str, FeatureView]) -> Person:
    """Parse the person from `NAME=VALUE`: NAME is an entity of the feature views, or a column.

    Raises
    ------
    InputError
        if the text does not have that form, or does not have a value for each key of the entity.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{text!r} is not a column with a value", "write it as customer_id=4711")
    keys = next((view.entity.keys for view in views.values() if view.entity.name == name), (name,)) or (name,)
    values = tuple(value.split("|")) if len(keys) > 1 else (value,)
    if len(values) != len(keys):
        raise InputError(f"entity {name!r} has the keys {', '.join(keys)}", f"write a value for each key: {name}=A|B")
    return Person(keys, values)


class Eraser:
    """Erases rows from all environments of a workspace."""

    def __init__(
        self, workspace: Workspace, policy: Policy, sources: Sources, views: Mapping[str, FeatureView], clock: Clock
    ) -> None:
        self._workspace = workspace
        self._policy = policy
        self._sources = sources
        self._views = views
        self._clock = clock
        self._environments = workspace.environments()

    def erase(self, person: Person, *, actor: str, reason: str, dry_run: bool = False) -> Erasure:
        """Delete the rows of a person from journal, online store, cached frames and tables; it can be repeated.

        Raises
        ------
        NotFound
            if no source, table or feature view has such a column.
        Conflict
            if a backup, a garbage collection or another erasure is running.
        """
        with upkeep(self._workspace.root, self._workspace.database):
            person, result = self._find_rows(person)
            if dry_run:
                rows, frames = self._rows(person, dry_run=True), self._frames(person, dry_run=True)
                return replace(result, rows=rows, frames=frames, unread=(*result.unread, *self._list_damaged()))
            hashed = _hash_person(person)
            self._record("began to erase", actor, reason, hashed)
            maybe_crash("erasure begins")
            frames = self._frames(person)
            rows = self._rows(person)
            done = replace(result, rows=rows, frames=frames, unread=(*result.unread, *self._list_damaged()))
            counts = {
                "rows": done.rows,
                "frames": frames,
                "sources": done.sources,
                "unread": list(done.unread),
                "releases": list(done.releases),
            }
            self._record("erased", actor, reason, hashed | counts)
        return done

    def _find_rows(self, person: Person) -> tuple[Person, Erasure]:
        """Return the person with the keys of all rows, and the files and models that contain the rows."""
        rows: dict[tuple[str, ...], set[str]] = {}
        files: dict[str, int] = {}
        first: dict[str, datetime] = {}
        is_known = any(set(person.columns) <= set(view.entity.keys) for view in self._views.values())
        unread: list[str] = []
        for source, path, frame in self._tables(unread):
            is_known = is_known or set(person.columns) <= set(frame.columns)
            matching = frame.filter(person.marks(frame))
            if matching.is_empty():
                continue
            if path:
                files[path] = max(matching.height, files.get(path, 0))  # two sources may read one file
            if KNOWN_AT in matching.columns:
                moment = matching[KNOWN_AT].min()
                assert isinstance(moment, datetime)
                first[source] = min(moment, first.get(source, moment))
            keys = self._policy.sources[source].key if source in self._policy.sources else ()
            if keys and set(keys) <= set(matching.columns):
                rows.setdefault(keys, set()).update(_texts(matching, keys).drop_nulls())
        if not is_known and not self._frames(person, dry_run=True):  # a step may have read files of its own
            raise NotFound(
                f"no source, table, feature view or cached frame has {', '.join(person.columns)!r} of that value",
                "check its spelling: nothing was erased",
            )
        result = Erasure(rows={}, frames=0, sources=files, unread=tuple(unread), releases=self._releases(first))
        return replace(person, rows=rows), result

    def _tables(self, unread: list[str]) -> Iterator[tuple[str, str, pl.DataFrame]]:
        """Iterate over all rows: those of each source's files, with their paths, and those of the tables."""
        for source in self._policy.sources:
            batches: Sequence[Batch] = ()
            with suppress(DataError):  # the source has no file now
                batches = self._sources.batches(source, self._clock.now())
            for batch in batches:
                try:
                    yield source, batch.path, self._sources.read(batch)
                except DataError:
                    unread.append(batch.path)
        for workspace in self._environments:
            for table in workspace.tables.names():
                yield table, "", workspace.tables.read(table, workspace.tables.version(table))

    def _releases(self, first: Mapping[str, datetime]) -> tuple[str, ...]:
        """Return the releases that were trained after a source of their model first had such rows."""
        labels = []
        for model in self._policy.models.values():
            read = {model.problem.source, *(self._views[v].source for v in model.inputs.views if v in self._views)}
            moments = [moment for source, moment in first.items() if source in read]
            releases = self._workspace.ledger.releases.find(name=model.name) if moments else []
            labels += [release.label for release in releases if release.created >= min(moments)]
        return tuple(labels)

    def _rows(self, person: Person, *, dry_run: bool = False) -> dict[str, int]:
        counts: dict[str, int] = {}
        for workspace in self._environments:
            parts = (self._journal(workspace, person, dry_run), self._online(workspace, person, dry_run))
            for part in parts:
                with suppress(Corrupt):  # `_list_damaged` names the file
                    for name, count in part:
                        counts[f"{workspace.environment} {name}"] = count
            maybe_crash("erasure has an environment")
        for workspace in self._environments:
            for table in workspace.tables.names():
                counts[f"{workspace.environment} table {table}"] = workspace.tables.erase(
                    table, person.marks, dry_run=dry_run
                )
        return {name: count for name, count in counts.items() if count}

    def _list_damaged(self) -> tuple[str, ...]:
        """Return the damaged files of the journals and online stores, which can contain such rows."""
        damaged: list[str] = []
        for workspace in self._environments:
            for store in (workspace.journal, workspace.online):
                if isinstance(store, Checked):
                    damaged += [f"{workspace.environment} {each.store} {each.name}" for each in store.damages()]
        return tuple(damaged)

    def _journal(self, workspace: Workspace, person: Person, dry_run: bool) -> Iterator[tuple[str, int]]:
        """Erase the journal: labels first, because they are found by the ids of their predictions."""
        kinds = sorted(workspace.journal.kinds(), key=lambda kind: not kind.startswith("labels/"))
        for kind in kinds:
            family, _, model = kind.partition("/")
            served = self._match_served(person, model)
            ids: set[str] = set()
            if family == "labels":
                rows = workspace.journal.read(f"predictions/{model}")
                ids = set(rows.filter(served(rows))["id"]) if rows.width else set()
            yield f"journal {kind}", workspace.journal.erase(kind, _with_ids(served, ids), dry_run=dry_run)
            maybe_crash("erasure has a kind")

    def _match_served(self, person: Person, model: str) -> Callable[[pl.DataFrame], pl.Series]:
        """Return a function that selects the person's rows in the journal of a model, by key or by served values."""
        policy = self._policy.models.get(model)
        sources = self._policy.sources
        every = [sources[policy.problem.source].key] if policy else [source.key for source in sources.values()]

        def marks(rows: pl.DataFrame) -> pl.Series:
            marked = person.marks(rows)
            if "features" in rows.columns:
                marked = marked | person.marks(rows["features"].struct.unnest())
            if "key" in rows.columns:
                named = [any(person.is_named_by(keys, key or "") for keys in every) for key in rows["key"]]
                marked = marked | pl.Series(named, dtype=pl.Boolean)
            return marked

        return marks

    def _online(self, workspace: Workspace, person: Person, dry_run: bool) -> Iterator[tuple[str, int]]:
        store = workspace.online
        for name in store.views():
            view = self._views.get(name)
            # For a view that features.py no longer defines, delete every row with that value.
            keys = view.entity.keys if view else person.columns
            yield f"online {name}", store.erase(name, lambda e, k=keys: person.is_named_by(k, e), dry_run=dry_run)  # type: ignore[misc]

    def _frames(self, person: Person, *, dry_run: bool = False) -> int:
        """Delete the bytes of cached frames with such rows; steps that need the frames compute them again."""
        ledger, blobs = self._workspace.ledger, self._workspace.blobs
        count = 0
        for kind in (*_FRAMES, *_COLLECTIONS):
            for artifact in ledger.artifacts.find(kind=kind):
                matching = list(_find_frames(blobs, artifact, person))
                count += bool(matching)
                if matching and not dry_run:
                    now = self._clock.now()
                    ledger.artifacts.change(artifact.id, lambda a, at=now: replace(a, collected=at))  # type: ignore[misc]
                    for erased in (*matching, artifact):
                        blobs.delete(erased.digest)
                    maybe_crash("erasure has a frame")
        return count

    def _record(self, action: str, actor: str, reason: str, detail: dict[str, Any]) -> None:
        ledger = self._workspace.ledger
        with ledger.transaction(durable=True):
            ledger.audit.add(
                AuditEntry(
                    id=self._clock.mint(),
                    actor=actor,
                    action=action,
                    subject=f"person/{detail['hash'][:16]}",
                    time=self._clock.now(),
                    reason=reason,
                    environment=self._workspace.environment,
                    detail=detail,
                )
            )


def _texts(frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series:
    """Return the columns as one text; null if a column has lists or records."""
    if any(frame.schema[column].is_nested() for column in columns):
        return pl.Series([None] * frame.height, dtype=pl.String)
    return to_row_keys(frame, columns)


def _with_ids(marks: Callable[[pl.DataFrame], pl.Series], ids: set[str]) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda rows: marks(rows) | rows["id"].is_in(list(ids)) if ids and "id" in rows.columns else marks(rows)


def _find_frames(blobs: Blobs, artifact: Artifact, person: Person) -> Iterator[Artifact]:
    """Iterate over the frames of an artifact with such rows: the artifact itself, or its members."""
    with suppress(NotFound, Corrupt):
        if artifact.kind in _FRAMES:
            if person.marks(pl.read_ipc(io.BytesIO(blobs.get(artifact.digest)))).any():
                yield artifact
        elif artifact.kind in _COLLECTIONS:
            for member in list_members(blobs, artifact):
                yield from _find_frames(blobs, member, person)


def _hash_person(person: Person) -> dict[str, str]:
    """Return the hash of a person: somebody with the key can verify it, but nobody can compute the key from it.

    scrypt (RFC 7914) with a random salt makes it slow to try all keys.
    """
    salt = os.urandom(16)
    key = "|".join(person.values).encode()
    digest = hashlib.scrypt(key, salt=salt, n=2**14, r=8, p=1, dklen=32)
    return {"columns": "|".join(person.columns), "salt": salt.hex(), "hash": digest.hex()}
