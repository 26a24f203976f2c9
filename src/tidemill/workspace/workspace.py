"""The workspace: the folder and the URLs in which one project keeps its state."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tidemill.blobs.store import Blobs
from tidemill.core.resources import Archived, Board, Journal, Online, PackageStore, Tables
from tidemill.errors import InputError, NotFound, StoreMissing, TidemillError
from tidemill.ledger.database import Database
from tidemill.ledger.ledger import Ledger
from tidemill.presence import StoreFolder, create_missing_error, make_folder
from tidemill.workspace.run_locks import RunLocks

STORES = ("ledger", "blobs", "journal", "tables", "online", "board")
_ENVIRONMENTS = ".environments"
_FOLDERS = {"blobs": "the blobs", "journal": "the journal", "tables": "the tables of rows", "board": "the board"}
_NAME = re.compile(r"[\w .-]*\w[\w .-]*")
_CURE = "make it writable, or choose another folder: TIDEMILL_WORKSPACE=FOLDER"


class BackEnds(Protocol):
    """Opens the stores of a workspace by their URLs."""

    def ledger(self, url: str) -> Database: ...
    def blobs(self, url: str) -> Blobs: ...
    def packages(self, blobs: Blobs) -> PackageStore: ...
    def journal(self, url: str) -> Journal: ...
    def tables(self, url: str) -> Tables: ...
    def online(self, url: str) -> Online: ...
    def board(self, url: str) -> Board: ...


class Workspace:
    """The stores of a project, each opened at its first use.

    `root` is a local folder. `urls` has the URLs of stores outside it, by their names in `STORES`: the ledger on a
    server, the blobs in an object store. A journal, tables, an online store and a board belong to one environment;
    the name of the environment is the end of their URLs.

    A store is created when it is first written; once it was created, it is never created again. Without `create`, a
    workspace that does not exist stays absent: its stores are empty, and nothing can be written to its ledger.
    """

    def __init__(
        self, root: Path, environment: str, back_ends: BackEnds, urls: Mapping[str, str], *, create: bool = True
    ) -> None:
        if not _NAME.fullmatch(environment):
            raise InputError(f"{environment!r} is not the name of an environment", "use letters, digits, - and _")
        self.root = root
        self.environment = environment
        self.back_ends = back_ends
        self.urls = dict(urls)
        self._may_create = create
        self._ledger: Ledger | None = None
        if create:
            self._create_root()
        self._had_root = root.is_dir()
        if self._had_root and not os.access(root, os.W_OK):
            raise TidemillError(f"the workspace {root} is read-only", _CURE)

    def _create_root(self) -> None:
        try:
            make_folder(self.root)
            if not (self.root / ".gitignore").exists():
                (self.root / ".gitignore").write_text("*\n")
            elif self.root.stat().st_mode & 0o077 and (self.root / ".ledger").exists():
                with suppress(OSError):
                    self.root.chmod(0o700)  # an earlier version created it for everybody
        except OSError as refused:
            raise TidemillError(f"the workspace {self.root} cannot be written: {refused.strerror}", _CURE) from None

    def for_environment(self, environment: str) -> "Workspace":
        """Return the workspace of another environment of the same project."""
        return Workspace(self.root, environment, self.back_ends, self.urls, create=self._may_create)

    def environments(self) -> "list[Workspace]":
        """Return the workspace of every environment that has state, in alphabetical order, also of one that is lost."""
        names = {folder.name for folder in self.root.glob("environments/*")}
        names |= {mark.name for mark in (self.root / _ENVIRONMENTS).glob("*")}
        return [self.for_environment(name) for name in sorted(names)]

    def url(self, store: str) -> str:
        """Return the URL of a store, by its name in `STORES`."""
        inside = {
            "ledger": f"sqlite:///{self.root / 'ledger.db'}",
            "blobs": str(self.root / "blobs"),
            "journal": str(self.state_folder / "journal"),
            "tables": str(self.state_folder / "tables"),
            "online": f"sqlite:///{self.state_folder / 'online.db'}",
            "board": str(self.state_folder / "routes"),
        }
        if store not in self.urls:
            return inside[store]
        url = self.urls[store]
        return url if store in ("ledger", "blobs") else f"{url.rstrip('/')}/{self.environment}"

    def is_inside(self, store: str) -> bool:
        """Return whether a store is in the folder of the workspace."""
        return store not in self.urls or Path(self.url(store)) == self.root / store

    @cached_property
    def database(self) -> Database:
        """Return the database of the ledger, without reading it."""
        return self.back_ends.ledger(self.url("ledger"))

    @property
    def ledger(self) -> Ledger:
        """Open the ledger; create it if it never existed.

        Raises
        ------
        StoreMissing
            if it was created and is lost: a new empty ledger would hide the loss.
        TidemillError
            if it cannot be opened.
        """
        if self._ledger is None:
            self.require_root()
            if self.has_lost_ledger:
                assert self.ledger_file is not None
                raise create_missing_error("the ledger", self.ledger_file, self._mark)
            is_new = not self._marked
            try:
                self._ledger = Ledger(self.database, create=self._may_create and is_new)
            except StoreMissing:
                if self._may_create or not is_new:
                    raise
                return Ledger("sqlite://", refusal=self._create_absent_error())
            if is_new and self.database.address:
                self._create_root()
                with suppress(OSError):
                    self._mark.touch(mode=0o600)
                    self._mark.write_bytes(self._path)
        return self._ledger

    def _create_absent_error(self) -> TidemillError:
        return NotFound(
            f"the project has no ledger yet: there is none at {self.database.address}",
            "the first run creates it: `tidemill run PIPELINE`; or restore a backup: `tidemill restore FILE`",
        )

    @property
    def has_lost_ledger(self) -> bool:
        """Return whether the file of the ledger was deleted."""
        return self.ledger_file is not None and not self.ledger_file.exists() and self._marked

    @property
    def ledger_file(self) -> Path | None:
        """Return the file of the ledger; None if it is on a server."""
        return self.database.file

    @property
    def _mark(self) -> Path:
        """Return the file that contains the path or the address of the ledger, written when it was created."""
        return self.root / ".ledger"

    @property
    def _path(self) -> bytes:
        file = self.ledger_file
        return os.fsencode(os.path.relpath(file, self.root) if file is not None else self.database.address)

    @property
    def _marked(self) -> bool:
        try:
            return self._mark.read_bytes() == self._path
        except FileNotFoundError:
            return False

    @cached_property
    def blobs(self) -> Blobs:
        self.require_root()
        return self.back_ends.blobs(self.url("blobs"))

    @cached_property
    def packages(self) -> PackageStore:
        return self.back_ends.packages(self.blobs)

    @cached_property
    def journal(self) -> Journal:
        return self.back_ends.journal(self._url_of_environment("journal"))

    @cached_property
    def tables(self) -> Tables:
        return self.back_ends.tables(self._url_of_environment("tables"))

    @cached_property
    def online(self) -> Online:
        return self.back_ends.online(self._url_of_environment("online"))

    @cached_property
    def board(self) -> Board:
        return self.back_ends.board(self._url_of_environment("board"))

    @property
    def archived(self) -> dict[str, Archived]:
        """Return the stores of the environment that a backup copies, by name."""
        return {"journal": self.journal, "tables": self.tables, "board": self.board, "online": self.online}

    @cached_property
    def run_locks(self) -> RunLocks:
        return RunLocks(self.root / "runs", self.database)

    @property
    def state_folder(self) -> Path:
        """Return the folder of the environment's state."""
        return self.root / "environments" / self.environment

    def _url_of_environment(self, store: str) -> str:
        if self._may_create:
            self.create_environment()
        else:
            self.require_environment()
        return self.url(store)

    def require_root(self) -> None:
        """Raise `StoreMissing` if the folder of the workspace has disappeared since this process opened it."""
        if self._had_root and not self.root.is_dir():
            raise create_missing_error("the workspace", self.root)

    def require_environment(self) -> None:
        """Raise `StoreMissing` if the folder of the environment was created and is lost."""
        self.require_root()
        mark = self.root / _ENVIRONMENTS / self.environment
        if mark.exists() and not self.state_folder.is_dir():
            raise create_missing_error(f"the state of the environment {self.environment}", self.state_folder, mark)

    def require_stores(self) -> None:
        """Raise `StoreMissing` if a store in the workspace was created and is lost, also one that nothing reads now."""
        self.require_environment()
        for store, what in _FOLDERS.items():
            if store not in self.urls:
                StoreFolder(Path(self.url(store)), what).require()

    def forget_lost(self) -> None:
        """Forget the environments and the blobs that are lost, so that a restore can create them again."""
        for mark in (self.root / _ENVIRONMENTS).glob("*"):
            if not (self.root / "environments" / mark.name).is_dir():
                mark.unlink(missing_ok=True)
        if self.is_inside("blobs"):
            StoreFolder(self.root / "blobs", "the blobs").forget_lost()

    def create_environment(self) -> None:
        """Create the folder of the environment's state, unless it exists.

        The folder shows that the environment exists, even if all of its stores have URLs outside.
        """
        self.require_environment()
        make_folder(self.root / "environments")
        make_folder(self.state_folder)
        mark = self.root / _ENVIRONMENTS / self.environment
        if not mark.exists():
            make_folder(mark.parent)
            mark.touch(mode=0o600)
