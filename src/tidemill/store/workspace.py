"""The workspace: the folder (or the URLs) in which one project keeps its state."""

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import TidemillError
from tidemill.store.alive import Alive
from tidemill.store.blobs import Blobs, open_blobs
from tidemill.store.board import FileBoard
from tidemill.store.ledger import Ledger

if TYPE_CHECKING:
    from tidemill.store.journal import FileJournal
    from tidemill.store.tables import DeltaTables


class Workspace:
    """Opens the stores of a project when they are first asked for.

    `root` is a local folder. `TIDEMILL_LEDGER` and `TIDEMILL_BLOBS` put the ledger on PostgreSQL and the blobs
    in an object store; a replay gives its own `blobs` to share what was made before.
    """

    def __init__(self, root: Path, environment: str = "production", *, blobs: str | None = None) -> None:
        self.root = root
        self.environment = environment
        self._blobs = blobs
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not (root / ".gitignore").exists():
                (root / ".gitignore").write_text("*\n")
        except OSError as refused:
            raise TidemillError(f"the workspace {root} cannot be written: {refused.strerror}", _CURE) from None
        if not os.access(root, os.W_OK):
            raise TidemillError(f"the workspace {root} is read-only", _CURE)

    @property
    def blobs_url(self) -> str:
        return self._blobs or os.environ.get("TIDEMILL_BLOBS") or str(self.root / "blobs")

    @property
    def ledger_url(self) -> str:
        return os.environ.get("TIDEMILL_LEDGER") or f"sqlite:///{self.root / 'ledger.db'}"

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.ledger_url)

    @cached_property
    def blobs(self) -> Blobs:
        return open_blobs(self.blobs_url)

    @cached_property
    def journal(self) -> "FileJournal":
        from tidemill.store.journal import FileJournal  # with it comes Polars, which many commands do without

        return FileJournal(self.state_folder / "journal")

    @cached_property
    def tables(self) -> "DeltaTables":
        from tidemill.store.tables import DeltaTables

        return DeltaTables(str(self.state_folder / "tables"))

    @cached_property
    def alive(self) -> Alive:
        return Alive(self.root / "runs")

    @cached_property
    def board(self) -> FileBoard:
        return FileBoard(self.state_folder / "routes")

    @property
    def online(self) -> Path:
        """Where the embedded online store of the environment is."""
        return self.state_folder / "online.db"

    @property
    def state_folder(self) -> Path:
        """Where the environment keeps its own state."""
        return self.root / "environments" / self.environment


_CURE = "make it writable, or choose another folder: TIDEMILL_WORKSPACE=FOLDER"
