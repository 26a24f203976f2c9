"""Files of a store on disk, as they go into a backup and come back from it."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def exported(folder: Path, files: Iterable[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Each file by its path within the folder, open until the next is asked for; one that was deleted is left out."""
    for file in files:
        with suppress(FileNotFoundError), file.open("rb") as source:
            yield file.relative_to(folder).as_posix(), source


def loaded(folder: Path, files: Iterable[tuple[str, BinaryIO]]) -> None:
    """Write exported files into a folder."""
    for name, source in files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as sink:
            shutil.copyfileobj(source, sink)
