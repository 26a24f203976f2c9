"""Copies of the files of a store on disk, for backup and restore."""

import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tidemill.errors import Corrupt
from tidemill.journal.segments import UnreadableSegment, read_content
from tidemill.presence import StoreFolder, open_private


def open_files(folder: Path, files: Iterable[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Iterate over files by their paths inside the folder, each open until the next; skip deleted files."""
    for file in files:
        with suppress(FileNotFoundError), file.open("rb") as source:
            yield file.relative_to(folder).as_posix(), source


def open_verified(
    folder: Path, segments: Iterable[Path], kind: str, report: Callable[[str, str, str], None]
) -> Iterator[tuple[str, BinaryIO]]:
    """Iterate over the segments of a kind whose bytes are those that were written; report the damaged ones."""
    for segment in segments:
        try:
            content = read_content(str(segment), kind)
        except (FileNotFoundError, UnreadableSegment):
            continue
        except Corrupt as damage:
            report(str(segment), kind, damage.problem)
            continue
        yield segment.relative_to(folder).as_posix(), io.BytesIO(content)


def write_files(store: StoreFolder, files: Iterable[tuple[str, BinaryIO]]) -> None:
    """Write the files of an export into the folder of a store."""
    for name, source in files:
        path = PurePosixPath(name)
        file = store.make(str(path.parent)) / path.name
        with open(file, "wb", opener=open_private) as sink:
            shutil.copyfileobj(source, sink)
