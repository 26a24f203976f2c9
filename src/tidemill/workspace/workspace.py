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
from tidemill.errors import InputError, TidemillError
from tidemill.ledger.database import Database
from tidemill.ledger.ledger import Ledger
from tidemill.workspace.run_locks import RunLocks

STORES = ("ledger", "blobs", "journal", "tables", "online", "board")
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
    """

    def __init__(self, root: Path, environment: str, back_ends: BackEnds, urls: Mapping[str, str]) -> None:
        if not _NAME.fullmatch(environment):
            raise InputError(f"{environment!r} is not the name of an environment", "use letters, digits, - and _")
        self.root = root
        self.environment = environment
        self.back_ends = back_ends
        self.urls = dict(urls)
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not (root / ".gitignore").exists():
                (root / ".gitignore").write_text("*\n")
        except OSError as refused:
            raise TidemillError(f"the workspace {root} cannot be written: {refused.strerror}", _CURE) from None
        if not os.access(root, os.W_OK):
            raise TidemillError(f"the workspace {root} is read-only", _CURE)

    def for_environment(self, environment: str) -> "Workspace":
        """Return the workspace of another environment of the same project."""
        return Workspace(self.root, environment, self.back_ends, self.urls)

    def environments(self) -> "list[Workspace]":
        """Return the workspace of every environment that has state, in alphabetical order."""
        return [self.for_environment(folder.name) for folder in sorted(self.root.glob("environments/*"))]

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

    @cached_property
    def ledger(self) -> Ledger:
        """Open the ledger. A deleted ledger file is an error: a new empty file would hide the loss.

        Raises
        ------
        TidemillError
            if its file was deleted, or cannot be opened.
        """
        if self.has_lost_ledger:
            raise TidemillError(
                f"the ledger at {self.ledger_file} was deleted",
                f"restore the file or a backup; to start a new ledger without the records, also delete {self._mark}",
            )
        ledger = Ledger(self.database)
        if self.ledger_file is not None and self.ledger_file.exists() and not self._marked:
            with suppress(OSError):
                self._mark.write_bytes(self._path)
        return ledger

    @property
    def has_lost_ledger(self) -> bool:
        """Return whether the file of the ledger was deleted."""
        return self.ledger_file is not None and self._marked and not self.ledger_file.exists()

    @property
    def ledger_file(self) -> Path | None:
        """Return the file of the ledger; None if it is on a server."""
        return self.database.file

    @property
    def _mark(self) -> Path:
        """Return the file that contains the path of the ledger, written when the ledger was created."""
        return self.root / ".ledger"

    @property
    def _path(self) -> bytes:
        return os.fsencode(os.path.relpath(self.ledger_file or "", self.root))

    @property
    def _marked(self) -> bool:
        try:
            return self._mark.read_bytes() == self._path
        except FileNotFoundError:
            return False

    @cached_property
    def blobs(self) -> Blobs:
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
        return RunLocks(self.root / "runs")

    @property
    def state_folder(self) -> Path:
        """Return the folder of the environment's state."""
        return self.root / "environments" / self.environment

    def _url_of_environment(self, store: str) -> str:
        # The folder shows that the environment exists, even if all of its stores have URLs outside.
        self.state_folder.mkdir(parents=True, exist_ok=True)
        return self.url(store)
