"""The doctor: reads and verifies every store of a workspace, names what is damaged, and mends what it can.

It mends the board from the ledger, the online store from the sources, blobs and files of the journal and of tables from
a backup, and cached results by letting the next run compute them again. It deletes nothing that cannot be made again,
except the record of files that a person gives up.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from msgspec import Struct
from msgspec.structs import replace

from tidemill.access.tokens import publish_tokens
from tidemill.clock import Clock
from tidemill.core.damage import Checked, Damage
from tidemill.durable import is_abandoned
from tidemill.errors import Corrupt, NotFound, TidemillError
from tidemill.registry.publication import list_unpublished, publish_routes
from tidemill.telemetry import get_logger
from tidemill.upkeep.backup import list_needed_blobs
from tidemill.upkeep.restore import read_members
from tidemill.workspace.workspace import Workspace

log = get_logger("upkeep")
_ABANDONED_SECONDS = 3600.0
_SCRATCH = (".backup-*", ".restoring-*", "environments/*/.export-*", "environments/*/.load-*")
_IN_BACKUPS = ("blobs", "journal", "tables")
_FROM_BACKUP = "mend it from a backup: `tidemill doctor --mend --backup FILE`"


class Finding(Struct, frozen=True, kw_only=True):
    """A damaged object, in an environment (empty for all), and how it was mended (empty if it was not)."""

    damage: Damage
    environment: str = ""
    mended: str = ""


class Doctor:
    """Examines and mends one workspace; `rebuild` computes the online store of an environment from its sources."""

    def __init__(self, workspace: Workspace, clock: Clock, rebuild: Callable[[Workspace], object]) -> None:
        self._workspace = workspace
        self._clock = clock
        self._rebuild = rebuild

    def examine(self) -> Iterator[Finding]:
        """Read everything, and yield what is damaged; damage in one store does not end the others' examination."""
        for damage in (*self._examine_ledger(), *self._examine_blobs(), *self._find_leftovers()):
            yield Finding(damage=damage)
        for opened in self._workspace.environments():
            for name, store in opened.archived.items():
                if not isinstance(store, Checked):
                    continue
                try:
                    damages = list(store.check())
                except (TidemillError, OSError, sqlite3.Error) as error:
                    damages = [Damage(store=name, name=opened.url(name), state="unreadable", problem=str(error))]
                yield from (Finding(damage=damage, environment=opened.environment) for damage in damages)
            named = {damage.name for damage in self._list_board_damages(opened)}
            outdated = (each for each in self._compare_board(opened) if each.name not in named)
            yield from (Finding(damage=each, environment=opened.environment) for each in outdated)

    def mend(self, findings: list[Finding], backup: IO[bytes] | None = None, *, accept: bool = False) -> list[Finding]:
        """Mend what can be mended; with `accept`, stop reporting files of the journal that are lost for good."""
        mended = {}
        if backup is not None:
            mended = self._mend_from_backup(findings, backup)
        results = []
        for finding in findings:
            how = mended.get(_locate(finding), "") or self._mend_one(finding)
            if not how and accept:
                how = self._give_up(finding)
            results.append(replace(finding, mended=how))
        return results

    def _examine_ledger(self) -> Iterator[Damage]:
        file = self._workspace.ledger_file
        try:
            ledger = self._workspace.ledger
            if file is not None and file.exists():
                connection = self._workspace.database.connect()
                try:
                    problems = [text for (text,) in connection.execute("PRAGMA integrity_check(5)")]
                finally:
                    connection.close()
                if problems != ["ok"]:
                    yield _report_ledger(file.name, f"the ledger {file} is damaged: {'; '.join(problems)}")
            for fault in ledger.verify():
                name = f"{fault.book}/{fault.id}" if fault.id else fault.book
                yield _report_ledger(name, f"{fault.book} {fault.id}".strip() + f": {fault.problem}")
        except (TidemillError, OSError, sqlite3.Error) as error:
            yield _report_ledger(self._workspace.url("ledger"), str(error))

    def _examine_blobs(self) -> Iterator[Damage]:
        blobs = self._workspace.blobs
        try:
            needed = list_needed_blobs(self._workspace)
        except (TidemillError, sqlite3.Error):
            needed = set()
        try:
            stored = {blob.digest for blob in blobs.list_blobs()}
        except (TidemillError, OSError) as error:
            yield Damage(store="blobs", name=self._workspace.url("blobs"), state="unreadable", problem=str(error))
            return
        for digest in sorted(stored | needed):
            try:
                blobs.open(digest).close()
            except NotFound as missing:
                yield Damage(store="blobs", name=digest, state="missing", problem=missing.problem, cure=_FROM_BACKUP)
            except Corrupt as damage:
                yield Damage(store="blobs", name=digest, state="damaged", problem=damage.problem, cure=_FROM_BACKUP)
            except TidemillError as refused:
                yield Damage(store="blobs", name=digest, state="unreadable", problem=refused.problem, cure=refused.cure)

    def _find_leftovers(self) -> Iterator[Damage]:
        for pattern in _SCRATCH:
            for folder in self._workspace.root.glob(pattern):
                if is_abandoned(folder, _ABANDONED_SECONDS):
                    name = folder.relative_to(self._workspace.root).as_posix()
                    problem = "a command that was killed left this folder"
                    yield Damage(store="workspace", name=name, state="leftover", problem=problem, cure="delete it")

    def _compare_board(self, opened: Workspace) -> Iterator[Damage]:
        with suppress(TidemillError, OSError, sqlite3.Error):
            for route in list_unpublished(self._workspace.ledger, opened.board, opened.environment):
                problem = f"version {route.version} of the route is in the ledger and not on the board"
                cure = "`tidemill doctor --mend` publishes it"
                yield Damage(store="board", name=f"{route.model}.json", state="outdated", problem=problem, cure=cure)

    def _mend_one(self, finding: Finding) -> str:
        """Mend a finding without a backup; return how, or an empty text."""
        damage = finding.damage
        try:
            opened = self._workspace.for_environment(finding.environment) if finding.environment else self._workspace
            if damage.store == "board":
                publish_routes(self._workspace.ledger, opened.board, opened.environment)
                publish_tokens(self._workspace.ledger, [opened.board])
                is_damaged = damage.name in {each.name for each in self._list_board_damages(opened)}
                return "" if is_damaged else "published again from the ledger"
            if damage.store == "online":
                drop = getattr(opened.online, "drop_damaged", None)
                if drop is None:
                    return ""
                drop()
                self._rebuild(opened)
                return "computed again from the sources"
            if damage.store == "blobs":
                return self._forget_blob(damage.name)
            if damage.state == "leftover":
                shutil.rmtree(self._workspace.root / damage.name, ignore_errors=True)
                return "deleted"
        except (TidemillError, OSError, sqlite3.Error) as error:
            log.error("%s %s could not be mended: %s", damage.store, damage.name, error)
        return ""

    def _list_board_damages(self, opened: Workspace) -> list[Damage]:
        return opened.board.damages() if isinstance(opened.board, Checked) else []

    def _forget_blob(self, digest: str) -> str:
        """Mark a cached result as deleted, so that the next run computes it again; packages cannot be made again."""
        ledger = self._workspace.ledger
        if not ledger.artifacts.find(id=digest, limit=1) or ledger.releases.find(package=digest, limit=1):
            return ""
        now = self._clock.now()
        ledger.artifacts.change(digest, lambda artifact: replace(artifact, collected=now))
        self._workspace.blobs.delete(digest)
        return "the next run computes it again"

    def _mend_from_backup(self, findings: list[Finding], backup: IO[bytes]) -> dict[str, str]:
        wanted = {_locate(finding): finding for finding in findings if finding.damage.store in _IN_BACKUPS}
        mended = {}
        for member, content in read_members(backup):
            finding = wanted.get(member.name)
            if finding is not None and self._put_back(finding, content.read()):
                mended[member.name] = "copied from the backup"
        return mended

    def _put_back(self, finding: Finding, content: bytes) -> bool:
        """Write the bytes of an object from a backup; return False if they are not those of the object."""
        name = finding.damage.name
        if finding.damage.store == "blobs":
            return self._workspace.blobs.put(content, durable=True) == name
        store = self._workspace.for_environment(finding.environment).archived[finding.damage.store]
        put_back = getattr(store, "put_back", None)
        return put_back is not None and bool(put_back(name, content))

    def _give_up(self, finding: Finding) -> str:
        damage = finding.damage
        if damage.store != "journal" or damage.state not in ("damaged", "missing"):
            return ""
        accept = getattr(self._workspace.for_environment(finding.environment).journal, "accept_loss", None)
        if accept is None:
            return ""
        accept(damage.name)
        return "given up: its rows are lost"


def _locate(finding: Finding) -> str:
    """Return the name of the object in a backup."""
    damage = finding.damage
    return (
        f"blobs/{damage.name}"
        if damage.store == "blobs"
        else (f"environments/{finding.environment}/{damage.store}/{damage.name}")
    )


def _report_ledger(name: str, problem: str) -> Damage:
    return Damage(
        store="ledger", name=name, state="damaged", problem=problem, cure="restore a backup: `tidemill restore FILE`"
    )
