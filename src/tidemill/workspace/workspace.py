"""The workspace: the folder (or the URLs) in which one project keeps its state."""

import os
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.blobs.store import Blobs, open_blobs
from tidemill.errors import InputError, TidemillError
from tidemill.journal.board import FileBoard
from tidemill.ledger.ledger import Ledger
from tidemill.workspace.alive import Alive

if TYPE_CHECKING:
    from tidemill.journal.files import FileJournal
    from tidemill.journal.tables import DeltaTables

_NAME = re.compile(r"[\w .-]*\w[\w .-]*")


class Workspace:
    """Opens the stores of a project when they are first asked for.

    `root` is a local folder. `TIDEMILL_LEDGER` and `TIDEMILL_BLOBS` put the ledger on PostgreSQL and the blobs
    in an object store; a replay gives its own `blobs` to share what was made before.
    """

    def __init__(self, root: Path, environment: str = "production", *, blobs: str | None = None) -> None:
        if not _NAME.fullmatch(environment):
            raise InputError(f"{environment!r} is not the name of an environment", "use letters, digits, - and _")
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
        """The ledger; one that was here and is gone is not begun anew, as if nothing had ever happened.

        Raises
        ------
        TidemillError
            if it is gone, or cannot be opened.
        """
        if self.lost_its_ledger:
            raise TidemillError(
                f"the ledger at {self.ledger_file} is gone",
                f"put it back, or restore a backup; to begin anew without what it said, delete {self._mark}, too",
            )
        ledger = Ledger(self.ledger_url)
        if self.ledger_file is not None and self.ledger_file.exists() and not self._marked:
            with suppress(OSError):
                self._mark.write_bytes(self._place)
        return ledger

    @property
    def lost_its_ledger(self) -> bool:
        """Whether there was a file of the ledger, which is gone."""
        return self.ledger_file is not None and self._marked and not self.ledger_file.exists()

    @property
    def ledger_file(self) -> Path | None:
        """The file of the ledger, where it is one."""
        kind, _, path = self.ledger_url.partition(":///")
        return Path(path) if kind == "sqlite" else None

    @property
    def _mark(self) -> Path:
        """It says where a ledger was begun."""
        return self.root / ".ledger"

    @property
    def _place(self) -> bytes:
        return os.fsencode(os.path.relpath(self.ledger_file or "", self.root))

    @property
    def _marked(self) -> bool:
        try:
            return self._mark.read_bytes() == self._place
        except FileNotFoundError:
            return False

    @cached_property
    def blobs(self) -> Blobs:
        return open_blobs(self.blobs_url)

    @cached_property
    def journal(self) -> "FileJournal":
        from tidemill.journal.files import FileJournal  # with it comes Polars, which many commands do without

        return FileJournal(self.state_folder / "journal")

    @cached_property
    def tables(self) -> "DeltaTables":
        from tidemill.journal.tables import DeltaTables

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
