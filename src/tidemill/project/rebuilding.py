"""Rebuilds the folder of a project with the code of an earlier run and the current data."""

import io
import zipfile
from pathlib import Path

from tidemill.errors import Corrupt


def rebuild_project(packed: bytes, project: Path, folder: Path) -> None:
    """Unpack code into an empty folder, and add links to the data of the project.

    Raises
    ------
    Corrupt
        if the packed code cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Corrupt(f"the code of that run cannot be unpacked: {error}", "restore a backup") from None
    _link_missing(project, folder)


def _link_missing(project: Path, folder: Path) -> None:
    for entry in project.iterdir():
        target = folder / entry.name
        if entry.is_dir() and target.is_dir():
            _link_missing(entry, target)
        elif not target.exists() and not _is_code(entry):
            target.symlink_to(entry.resolve())


def _is_code(entry: Path) -> bool:
    """Return whether an entry is code, state or an environment, which the earlier project did not have, and no data."""
    return entry.suffix == ".py" or entry.name.startswith(".") or (entry / "pyvenv.cfg").exists()
