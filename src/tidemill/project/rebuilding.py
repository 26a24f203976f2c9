"""Rebuilds the folder of a project as its code was once, beside the data that it has now."""

import io
import zipfile
from pathlib import Path

from tidemill.errors import Corrupt


def rebuild(packed: bytes, project: Path, folder: Path) -> None:
    """Unpack code into an empty folder, and link to it what the project has besides code (its data).

    Raises
    ------
    Corrupt
        where the packed code cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, ValueError) as wrong:
        raise Corrupt(f"the code of that run cannot be unpacked: {wrong}", "restore a backup") from None
    _link_missing(project, folder)


def _link_missing(project: Path, folder: Path) -> None:
    for entry in project.iterdir():
        place = folder / entry.name
        if entry.is_dir() and place.is_dir():
            _link_missing(entry, place)
        elif not place.exists() and not _is_code(entry):
            place.symlink_to(entry.resolve())


def _is_code(entry: Path) -> bool:
    """Code that the packed state does not have was not there then; state and environments are no data."""
    return entry.suffix == ".py" or entry.name.startswith(".") or (entry / "pyvenv.cfg").exists()
