"""Zip files whose bytes depend on their content only: sorted names, one date, one mode, no compression."""

import io
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def write_archive(files: Mapping[str, bytes], executable: Collection[str] = ()) -> bytes:
    """Return a zip file; equal files result in equal bytes, on every machine.

    Nothing is compressed: other versions of zlib compress to other bytes.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = _UNIX
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return sink.getvalue()


def read_archive(archive: bytes) -> dict[str, bytes]:
    """Return the files of a zip file by their names."""
    with zipfile.ZipFile(io.BytesIO(archive)) as reader:
        return {entry.filename: reader.read(entry) for entry in reader.infolist() if not entry.is_dir()}


def unpack_archive(archive: bytes, folder: Path) -> None:
    """Write the files of a zip file of `write_archive` below a folder, with their modes."""
    with zipfile.ZipFile(io.BytesIO(archive)) as reader:
        for entry in reader.infolist():
            file = Path(reader.extract(entry, folder))
            if entry.external_attr >> 16 & 0o100:
                file.chmod(0o755)
