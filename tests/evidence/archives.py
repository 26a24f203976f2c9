"""Reads evidence files."""

import zipfile
from pathlib import Path

Files = dict[str, bytes]


def read(file: Path) -> Files:
    """Return the files of an archive."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
