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
from tidemill.workspace.alive import Alive

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
    """Opens the stores of a project when they are first asked for.

    `root` is a local folder. `urls` puts stores elsewhere, by their names in `STORES`: the ledger on a server, the
    blobs in an object store. A journal, tables, an online store and a board belong to one environment, whose name ends
    their URLs.
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

    def beside(self, environment: str) -> "Workspace":
        """The workspace of another environment of the same project."""
        return Workspace(self.root, environment, self.back_ends, self.urls)

    def environments(self) -> "list[Workspace]":
        """The workspace of every environment that has state here, in order."""
        return [self.beside(folder.name) for folder in sorted(self.root.glob("environments/*"))]

    def url(self, store: str) -> str:
        """Where a store is, by its name in `STORES`."""
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
        """Whether a store lies in the workspace's own folder."""
        return store not in self.urls or Path(self.url(store)) == self.root / store

    @cached_property
    def database(self) -> Database:
        """The database of the ledger, before anything in it is read."""
        return self.back_ends.ledger(self.url("ledger"))

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger; where its file was deleted, no new one is made, as if nothing had ever happened.

        Raises
        ------
        TidemillError
            if it is gone, or cannot be opened.
        """
        if self.lost_its_ledger:
            raise TidemillError(
                f"the ledger at {self.ledger_file} is gone",
                f"put it back, or restore a backup; to start a new one without its records, delete {self._mark}, too",
            )
        ledger = Ledger(self.database)
        if self.ledger_file is not None and self.ledger_file.exists() and not self._marked:
            with suppress(OSError):
                self._mark.write_bytes(self._path)
        return ledger

    @property
    def lost_its_ledger(self) -> bool:
        """Whether there was a file of the ledger, which is gone."""
        return self.ledger_file is not None and self._marked and not self.ledger_file.exists()

    @property
    def ledger_file(self) -> Path | None:
        """The file of the ledger, where it is one."""
        return self.database.file

    @property
    def _mark(self) -> Path:
        """It says where a ledger was begun."""
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
        """The stores of the environment, by name, as a backup copies them."""
        return {"journal": self.journal, "tables": self.tables, "board": self.board, "online": self.online}

    @cached_property
    def alive(self) -> Alive:
        return Alive(self.root / "runs")

    @property
    def state_folder(self) -> Path:
        """Where the environment keeps its own state."""
        return self.root / "environments" / self.environment

    def _url_of_environment(self, store: str) -> str:
        # The folder shows that the environment exists, also where all of its stores are elsewhere.
        self.state_folder.mkdir(parents=True, exist_ok=True)
        return self.url(store)
