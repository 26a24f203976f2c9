"""Copies of the files of a store on disk, for backup and restore."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def open_files(folder: Path, files: Iterable[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Iterate over files by their paths inside the folder, each open until the next; skip deleted files."""
    for file in files:
        with suppress(FileNotFoundError), file.open("rb") as source:
            yield file.relative_to(folder).as_posix(), source


def write_files(folder: Path, files: Iterable[tuple[str, BinaryIO]]) -> None:
    """Write the files of an export into a folder."""
    for name, source in files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as sink:
            shutil.copyfileobj(source, sink)
